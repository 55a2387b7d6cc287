"""The weights artifact: fp32 weights with their config, the tokenizer beside them, the metrics in logs/.

Where a running mean of the weights is kept, it is the model: evaluation, export and further training begin from it.
"""

import tempfile
from pathlib import Path

from data.tokenizer import Tokenizer
from model.config import ModelConfig
from model.weights import save_weights
from pipeline.dag.folder import Folder
from pipeline.training.checkpoint import newest_whole, whole_weights
from pipeline.training.fragments import WEIGHT
from pipeline.training.job import TrainingJob
from pipeline.training.optimizer import AVERAGE
from pipeline.training.ranks import Ranks
from pipeline.training.recorder import METRICS_FILE, Recorder

ALONE = Ranks(rank=0, world_size=1)


def write_artifact(
    job: TrainingJob, model: ModelConfig, *, scratch: Folder, output: Folder, recorder: Recorder
) -> None:
    """Write the artifact out of the final checkpoint; one rank does it, and no other is needed."""
    manifest, _ = newest_whole(scratch, ALONE)
    assert manifest is not None, "the final checkpoint has just been written"
    with tempfile.TemporaryDirectory(prefix="headrace-weights-") as folder:
        kind = AVERAGE if job.training.ema_decay else WEIGHT
        save_weights(Path(folder), model, whole_weights(scratch, manifest, kind=kind))
        output.upload_all(Path(folder))
    # Not every file of that folder: an artifact's manifest tells when it was built, which is no content.
    for name, content in Tokenizer.load(job.tokenizer.local()).files().items():
        output.write_bytes(f"tokenizer/{name}", content)
    output.write_bytes(f"logs/{METRICS_FILE}", recorder.as_bytes())
