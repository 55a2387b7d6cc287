"""The stages, in the order in which a recipe usually has them. Each file: a config dataclass and its `run`."""

from pipeline.dag.stage import Stage
from pipeline.stages.clean import Clean
from pipeline.stages.compare import Compare
from pipeline.stages.data_report import DataReport
from pipeline.stages.decontaminate import Decontaminate
from pipeline.stages.dedup import Dedup
from pipeline.stages.evaluate import Evaluate
from pipeline.stages.evaluate_vectors import EvaluateVectors
from pipeline.stages.examples import Examples
from pipeline.stages.export import Export
from pipeline.stages.export_vectors import ExportVectors
from pipeline.stages.finetune import Finetune
from pipeline.stages.import_tokenizer import ImportTokenizer
from pipeline.stages.import_vectors import ImportVectors
from pipeline.stages.ingest import Ingest
from pipeline.stages.pretrain import Pretrain
from pipeline.stages.register import Register
from pipeline.stages.split import Split
from pipeline.stages.tokenize import Tokenize
from pipeline.stages.train_tokenizer import TrainTokenizer
from pipeline.stages.word_vectors import LearnVectors

STAGES: tuple[type[Stage], ...] = (
    Ingest,
    Clean,
    Dedup,
    Split,
    Decontaminate,
    Examples,
    TrainTokenizer,
    ImportTokenizer,
    Tokenize,
    DataReport,
    LearnVectors,
    ImportVectors,
    EvaluateVectors,
    ExportVectors,
    Pretrain,
    Finetune,
    Evaluate,
    Compare,
    Export,
    Register,
)
