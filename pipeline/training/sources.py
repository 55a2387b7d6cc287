"""What a training learns from: the shards of its sources as batches. No torch, so that a look costs nothing."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.batches import Corruption, SequencePool, TrainingBatches
from data.example_rows import ExampleSequences
from data.fitted import Fit, FittedSequences
from data.followed import FollowedSequences, open_followed
from data.mixture import Mixture, MixtureRules, plan_counts
from data.packed import Boundaries, PackedSequences
from data.shards import TokenShards
from pipeline.dag.folder import Folder
from pipeline.dag.following import Following
from pipeline.training.config import Packing, TrainingConfig
from pipeline.training.length import Length

Tell = Callable[[str], None]
"Told what is waited for."
PoolOfExamples = Callable[[TokenShards], SequencePool]
"What an objective makes of examples that it does not read as one text."


@dataclass(frozen=True)
class Learned:
    """The batches of a run, and what it takes from each source of a mixture."""

    batches: TrainingBatches
    seq_len: int
    vocab_size: int
    length: Length
    counts: dict[str, int]
    "Source of a mixture to the sequences that the whole run takes from it."

    def counters(self) -> dict[str, int]:
        """Tokens of the whole run, as tokens/<source>; they add up to all that it trains on."""
        return {f"tokens/{name}": count * self.seq_len for name, count in self.counts.items()}

    def metrics(self) -> dict[str, float]:
        """How often the run sees a source, as epochs/<source>; how full sequences are, as packing/fill.

        Waits until all sequences are there.
        """
        pools = self.batches.pools
        for pool in pools:
            pool.reach(sys.maxsize)
        sizes = zip(self.counts.items(), pools, strict=False)  # a single source has no count
        epochs = {f"epochs/{name}": count / pool.num_sequences for (name, count), pool in sizes}
        return epochs | _fill(pools)


@dataclass(frozen=True)
class _Feed:
    """What a node follows, as `data` asks for it."""

    following: Following
    tell: Tell

    def __len__(self) -> int:
        return len(self.following)

    def wait(self, number: int) -> Path:
        return self.following.wait(number, self.tell)


def source_names(references: Sequence[str]) -> list[str]:
    """What the sources are called: by their node, or by node and part where a node gives several."""
    nodes = [reference.partition("/")[0] for reference in references]
    return nodes if len(set(nodes)) == len(nodes) else list(references)


def open_sources(
    tokens: Mapping[str, Folder | Following],
    training: TrainingConfig,
    *,
    packing: Packing | None,
    mixture: MixtureRules,
    tokenizer_hash: str | None = None,
    tell: Tell = lambda _text: None,
    corruption: Corruption | None = None,
    pool_of_examples: PoolOfExamples | None = None,
) -> Learned:
    """Raises `DataError` where the tokens are not the tokenizer's, do not fill a sequence, or do not last.

    And `ConfigError` where a length in epochs turns out to be too short for its warm-up or decay.
    """
    pools = {
        name: _open_pool(each, training, packing, tokenizer_hash, tell, pool_of_examples)
        for name, each in tokens.items()
    }
    first, *others = (pool.shards for pool in pools.values())
    for each in others:
        first.format.require(each.format, path=each.paths[0], first=first.paths[0])
    sizes = {name: pool.num_sequences for name, pool in pools.items()}
    length = training.length_over(sum(sizes.values()))
    counts: dict[str, int] = {}
    if len(pools) > 1:
        counts = plan_counts(mixture, sizes, num_draws=length.num_steps * training.sequences_per_step)
    batches = TrainingBatches(
        list(pools.values()),
        sequences_per_step=training.sequences_per_step,
        seed=training.seed,
        window=training.shuffle_window,
        mixture=Mixture(list(counts.values()), seed=training.seed) if counts else None,
        names=list(counts),
        corruption=corruption,
    )
    return Learned(batches, training.seq_len, first.format.vocab_size, length, counts)


def can_be_followed(
    training: TrainingConfig, packing: Packing | None, mixture: MixtureRules, *, num_sources: int
) -> bool:
    """Whether the first batches can be known before the last token is.

    The order must be shuffled in windows, sequences must be cut out of the tokens as they come, and neither the length
    nor the shares of several sources may depend on how large these are.
    """
    are_shares_known = num_sources == 1 or (bool(mixture.weights) and not mixture.max_epochs)
    is_length_known = training.num_epochs is None
    is_cut = packing is Packing.concatenate
    return training.shuffle_window > 0 and is_cut and is_length_known and are_shares_known


def _fill(pools: Sequence[SequencePool]) -> dict[str, float]:
    """The fraction of positions with a target, where there is padding by plan."""
    fitted = [pool for pool in pools if isinstance(pool, FittedSequences)]
    total = sum(pool.num_sequences for pool in fitted)
    return {"packing/fill": sum(pool.fill * pool.num_sequences for pool in fitted) / total} if fitted else {}


def open_shards(
    tokens: Folder | Following, tokenizer_hash: str | None, tell: Tell = lambda _text: None
) -> TokenShards:
    """All shards as one, in their order; waits for those that are still being written."""
    if isinstance(tokens, Following):
        return open_followed(_Feed(tokens, tell), len(tokens), tokenizer_hash=tokenizer_hash)
    paths = sorted(tokens.local().rglob("tokens-*.arrow"))
    return TokenShards(paths, tokenizer_hash=tokenizer_hash)


def _open_pool(
    tokens: Folder | Following,
    training: TrainingConfig,
    packing: Packing | None,
    tokenizer_hash: str | None,
    tell: Tell,
    pool_of_examples: PoolOfExamples | None,
) -> SequencePool:
    if isinstance(tokens, Following):
        assert packing is Packing.concatenate, f"{packing} asks for all tokens first"
        return FollowedSequences(
            _Feed(tokens, tell),
            seq_len=training.seq_len,
            boundaries=_boundaries(training),
            tokenizer_hash=tokenizer_hash,
        )
    return build_pool(open_shards(tokens, tokenizer_hash), training, packing, pool_of_examples)


def _boundaries(training: TrainingConfig) -> Boundaries:
    return Boundaries.mask if training.mask_documents else Boundaries.ignore


def build_pool(
    shards: TokenShards,
    training: TrainingConfig,
    packing: Packing | None,
    pool_of_examples: PoolOfExamples | None = None,
) -> SequencePool:
    """The sequences of one source; without a packing its rows are examples, each one text if nothing else is said."""
    seq_len = training.seq_len
    if packing is None and pool_of_examples is not None:
        return pool_of_examples(shards)
    if packing is None:
        # padding has no target and is attended to by nothing that has one
        return ExampleSequences(shards, seq_len=seq_len, pad_id=shards.format.eos_id)
    boundaries = _boundaries(training)
    if packing is Packing.concatenate:
        return PackedSequences(shards, seq_len=seq_len, boundaries=boundaries)
    fit = Fit.best if packing is Packing.best_fit else Fit.one
    return FittedSequences(shards, seq_len=seq_len, fit=fit, boundaries=boundaries)
