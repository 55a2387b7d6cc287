"""Sequences of shards that are still being written: those that exist by now, and more as they come."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from data.errors import DataError
from data.packed import Boundaries, PackedSequences
from data.shards import TokenShards

T = TypeVar("T")


class Feed(Protocol):
    """Shards in their order, as they come."""

    def __len__(self) -> int:
        """How many there will be."""
        ...

    def wait(self, number: int) -> Path:
        """Where shard `number` lies at the moment, once it is there. It may move once."""
        ...


class FollowedSequences(PackedSequences):
    """The sequences of `PackedSequences`, with the same numbers. Raises `DataError` as that does, and `TokenShards`."""

    def __init__(
        self,
        feed: Feed,
        *,
        seq_len: int,
        boundaries: Boundaries = Boundaries.ignore,
        tokenizer_hash: str | None = None,
    ) -> None:
        self._feed = feed
        first = open_followed(feed, 1, tokenizer_hash=tokenizer_hash)
        super().__init__(first, seq_len=seq_len, boundaries=boundaries)

    def reach(self, num_sequences: int) -> None:
        while self.num_sequences < num_sequences and len(self.shards.paths) < len(self._feed):
            _add_next(self.shards, self._feed)


def open_followed(feed: Feed, num_shards: int, *, tokenizer_hash: str | None = None) -> TokenShards:
    """The first shards of a feed as one, once all of them are there; `num_shards` >= 1."""
    shards = _with_its_move(lambda: TokenShards([feed.wait(0)], tokenizer_hash=tokenizer_hash))
    while len(shards.paths) < num_shards:
        _add_next(shards, feed)
    return shards


def _add_next(shards: TokenShards, feed: Feed) -> None:
    number = len(shards.paths)
    _with_its_move(lambda: shards.add([feed.wait(number)]))


def _with_its_move(opening: Callable[[], T]) -> T:
    """A shard may move between being found and being opened; mapped, it may move as it likes."""
    try:
        return opening()
    except DataError:
        return opening()
