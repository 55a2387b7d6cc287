"""Where an answer ends: at a token, at a text, or at a length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Decode = Callable[[Sequence[int]], str]
"""From token ids to their text."""


@dataclass(frozen=True)
class Ends:
    """What ends the answers, one row of them after the other."""

    room: list[int]
    "Tokens that each answer may have, at most."
    eos_ids: frozenset[int]
    texts: tuple[str, ...]
    "Wherever they begin and end within tokens."
    decode: Decode | None
    "Needed where there are texts."

    def ended(self, row: int, ids: Sequence[int]) -> bool:
        """Whether an answer of row `row` ends behind `ids`, which did not end before the last of them."""
        return len(ids) >= self.room[row] or ids[-1] in self.eos_ids or self._has_text(ids)

    def _has_text(self, ids: Sequence[int]) -> bool:
        if not self.texts:
            return False
        assert self.decode is not None, "texts are found in what ids decode to"
        return find_stop(self.decode(ids), self.texts) is not None


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first of the stops that are in a text begins; None where there is none."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(found, default=None)


def num_held_back(text: str, stops: Sequence[str]) -> int:
    """How many of a text's last characters may yet turn out to begin a stop."""
    begins = (stop[:length] for stop in stops for length in range(1, len(stop)))
    return max((len(begin) for begin in begins if text.endswith(begin)), default=0)
