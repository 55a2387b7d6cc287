"""What a training learns from: the shards of its sources as batches. No torch, so that a look costs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from data.batches import Boundaries, ExampleBatches, PretrainBatches
from data.mixture import Mixture, MixtureRules, plan_counts
from data.packing import num_packed
from data.shards import TokenShards
from pipeline.dag.folder import Folder
from pipeline.training.config import TrainingConfig
from pipeline.training.job import BatchKind

Batches = PretrainBatches | ExampleBatches


@dataclass(frozen=True)
class Learned:
    """The batches of a run, and what it takes from each source of a mixture."""

    batches: Batches
    vocab_size: int
    counters: dict[str, int] = field(default_factory=dict)
    "Tokens of the whole run, as tokens/<source>."
    metrics: dict[str, float] = field(default_factory=dict)
    "How often the run sees a source, as epochs/<source>."


def source_names(references: Sequence[str]) -> list[str]:
    """What the sources are called: by their node, or by node and part where a node gives several."""
    nodes = [reference.partition("/")[0] for reference in references]
    return nodes if len(set(nodes)) == len(nodes) else list(references)


def open_sources(
    folders: Mapping[str, Folder],
    training: TrainingConfig,
    *,
    kind: BatchKind,
    mixture: MixtureRules,
    tokenizer_hash: str | None = None,
) -> Learned:
    """Raises `DataError` where the tokens are not the tokenizer's, do not fill a sequence, or do not last."""
    shards = open_shards(tuple(folders.values()), tokenizer_hash)
    vocab_size = shards.format.vocab_size
    per_step, seed = training.sequences_per_step, training.seed
    if kind is BatchKind.examples or len(folders) == 1:
        return Learned(build_batches(kind, training, shards, per_step, seed), vocab_size)
    sources = {name: open_shards((folder,), tokenizer_hash) for name, folder in folders.items()}
    sizes = {name: num_packed(each.num_tokens, seq_len=training.seq_len) for name, each in sources.items()}
    counts = plan_counts(mixture, sizes, num_draws=training.num_steps * per_step)
    batches = PretrainBatches(
        list(sources.values()),
        seq_len=training.seq_len,
        sequences_per_step=per_step,
        seed=seed,
        boundaries=_boundaries(training),
        mixture=Mixture(list(counts.values()), seed=seed),
    )
    tokens = {f"tokens/{name}": count * training.seq_len for name, count in counts.items()}
    epochs = {f"epochs/{name}": count / sizes[name] for name, count in counts.items()}
    return Learned(batches, vocab_size, tokens, epochs)


def open_shards(folders: Sequence[Folder], tokenizer_hash: str | None) -> TokenShards:
    """All shards of the folders as one, in their order."""
    paths = [path for folder in folders for path in sorted(folder.local().rglob("tokens-*.arrow"))]
    return TokenShards(paths, tokenizer_hash=tokenizer_hash)


def build_batches(
    kind: BatchKind, training: TrainingConfig, shards: TokenShards, sequences_per_step: int, seed: int
) -> Batches:
    """Batches of one source."""
    if kind is BatchKind.examples:
        pad_id = shards.format.eos_id  # padding has no target and is attended to by nothing that has one
        return ExampleBatches(
            shards,
            seq_len=training.seq_len,
            examples_per_step=sequences_per_step,
            seed=seed,
            pad_id=pad_id,
        )
    return PretrainBatches(
        [shards],
        seq_len=training.seq_len,
        sequences_per_step=sequences_per_step,
        seed=seed,
        boundaries=_boundaries(training),
    )


def _boundaries(training: TrainingConfig) -> Boundaries:
    return Boundaries.mask if training.mask_documents else Boundaries.ignore
