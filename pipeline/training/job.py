"""What a training stage hands to its workers, and what it gets back."""

from dataclasses import dataclass, field

from data.mixture import MixtureRules
from model.config import ModelConfig
from pipeline.dag.folder import Folder
from pipeline.dag.following import Following
from pipeline.training.config import Packing, TrainingConfig


@dataclass(frozen=True)
class TrainingJob:
    """Everything a worker needs to train; picklable."""

    model: ModelConfig
    "Its vocab_size may be None: the tokenizer's is taken."
    training: TrainingConfig
    train_tokens: dict[str, Folder | Following]
    "Source to its folder of tokens-*.arrow shards, or to those that are still being written."
    tokenizer: Folder
    "Its files are copied into the artifact."
    tokenizer_hash: str
    "What the token shards must have been made with."
    validation_tokens: Folder | Following | None = None
    "Held-out shards; None: nothing is evaluated."
    initial_weights: Folder | None = None
    "A weights artifact to begin from; None: initialised from the seed."
    teacher: Folder | None = None
    "A weights artifact to learn from besides the tokens; None: there is none."
    embedding: Folder | None = None
    "Rows that the token embedding begins from, as `begin_embedding` reads them; None: as drawn."
    packing: Packing | None = Packing.concatenate
    "How documents become sequences; None: the rows are examples."
    mixture: MixtureRules = field(default_factory=MixtureRules)
    "How several sources are mixed."


@dataclass(frozen=True)
class Places:
    """Where a task keeps what."""

    scratch: Folder
    "Its checkpoints."
    output: Folder
    "Its artifact."
    measured: Folder | None = None
    "What its steps took, for later plans; None: not kept."


@dataclass
class TrainingResult:
    """What a run came to."""

    counters: dict[str, int] = field(default_factory=dict)
    "steps, tokens, parameters."
    metrics: dict[str, float] = field(default_factory=dict)
    "Last loss, evaluation of the final weights, speed."
