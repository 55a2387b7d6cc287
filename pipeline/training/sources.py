"""What a training learns from: the shards of its sources as batches. No torch, so that a look costs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from data.batches import SequencePool, TrainingBatches
from data.example_rows import ExampleSequences
from data.fitted import Fit, FittedSequences
from data.mixture import Mixture, MixtureRules, plan_counts
from data.packed import Boundaries, PackedSequences
from data.shards import TokenShards
from pipeline.dag.folder import Folder
from pipeline.training.config import Packing, TrainingConfig
from pipeline.training.length import Length


@dataclass(frozen=True)
class Learned:
    """The batches of a run, and what it takes from each source of a mixture."""

    batches: TrainingBatches
    vocab_size: int
    length: Length
    counters: dict[str, int] = field(default_factory=dict)
    "Tokens of the whole run, as tokens/<source>; they add up to all that it trains on."
    metrics: dict[str, float] = field(default_factory=dict)
    "How often the run sees a source, as epochs/<source>; how full sequences are, as packing/fill."


def source_names(references: Sequence[str]) -> list[str]:
    """What the sources are called: by their node, or by node and part where a node gives several."""
    nodes = [reference.partition("/")[0] for reference in references]
    return nodes if len(set(nodes)) == len(nodes) else list(references)


def open_sources(
    folders: Mapping[str, Folder],
    training: TrainingConfig,
    *,
    packing: Packing | None,
    mixture: MixtureRules,
    tokenizer_hash: str | None = None,
) -> Learned:
    """Raises `DataError` where the tokens are not the tokenizer's, do not fill a sequence, or do not last.

    And `ConfigError` where a length in epochs turns out to be too short for its warm-up or decay.
    """
    sources = {name: open_shards((folder,), tokenizer_hash) for name, folder in folders.items()}
    first, *others = sources.values()
    for each in others:
        first.format.require(each.format, path=each.paths[0], first=first.paths[0])
    vocab_size = first.format.vocab_size
    per_step, seed = training.sequences_per_step, training.seed
    pools = {name: build_pool(shards, training, packing) for name, shards in sources.items()}
    sizes = {name: pool.num_sequences for name, pool in pools.items()}
    length = training.length_over(sum(sizes.values()))
    fill = _fill(list(pools.values()))
    if len(pools) == 1:
        batches = TrainingBatches(list(pools.values()), sequences_per_step=per_step, seed=seed)
        return Learned(batches, vocab_size, length, metrics=fill)
    counts = plan_counts(mixture, sizes, num_draws=length.num_steps * per_step)
    mixed = TrainingBatches(
        list(pools.values()),
        sequences_per_step=per_step,
        seed=seed,
        mixture=Mixture(list(counts.values()), seed=seed),
    )
    tokens = {f"tokens/{name}": count * training.seq_len for name, count in counts.items()}
    epochs = {f"epochs/{name}": count / sizes[name] for name, count in counts.items()}
    return Learned(mixed, vocab_size, length, tokens, epochs | fill)


def _fill(pools: Sequence[SequencePool]) -> dict[str, float]:
    """The fraction of positions with a target, where there is padding by plan."""
    fitted = [pool for pool in pools if isinstance(pool, FittedSequences)]
    total = sum(pool.num_sequences for pool in fitted)
    return {"packing/fill": sum(pool.fill * pool.num_sequences for pool in fitted) / total} if fitted else {}


def open_shards(folders: Sequence[Folder], tokenizer_hash: str | None) -> TokenShards:
    """All shards of the folders as one, in their order."""
    paths = [path for folder in folders for path in sorted(folder.local().rglob("tokens-*.arrow"))]
    return TokenShards(paths, tokenizer_hash=tokenizer_hash)


def build_pool(shards: TokenShards, training: TrainingConfig, packing: Packing | None) -> SequencePool:
    """The sequences of one source; without a packing its rows are examples."""
    seq_len = training.seq_len
    if packing is None:
        # padding has no target and is attended to by nothing that has one
        return ExampleSequences(shards, seq_len=seq_len, pad_id=shards.format.eos_id)
    boundaries = Boundaries.mask if training.mask_documents else Boundaries.ignore
    if packing is Packing.concatenate:
        return PackedSequences(shards, seq_len=seq_len, boundaries=boundaries)
    fit = Fit.best if packing is Packing.best_fit else Fit.one
    return FittedSequences(shards, seq_len=seq_len, fit=fit, boundaries=boundaries)
