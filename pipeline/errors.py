"""What a user sees when something is wrong: four parts, no traceback, an exit code."""

import difflib
from collections.abc import Iterable


class HeadraceError(Exception):
    """An error in words: what is wrong, where it was set, what is allowed, what to do.

    The command line prints the four parts and ends with `exit_code`.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", allowed: str = "", do: str = "") -> None:
        super().__init__(what, where, allowed, do)
        self.what, self.where, self.allowed, self.do = what, where, allowed, do

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.allowed, self.do)

    def __str__(self) -> str:
        return "\n".join(f"{label}{text}" for label, text in self.parts() if text)

    def parts(self) -> list[tuple[str, str]]:
        return [("", self.what), ("where: ", self.where), ("allowed: ", self.allowed), ("do: ", self.do)]


class ConfigError(HeadraceError):
    """The configuration or the command is wrong; nothing was started."""

    exit_code = 2


class InputDataError(HeadraceError):
    """The data given from outside is wrong."""

    exit_code = 3


class StageFailedError(HeadraceError):
    """A stage failed while it ran."""


class WorkerLostError(StageFailedError):
    """The processes that worked on an item ended one after the other: for lack of memory, or by a crash."""

    item = ""
    "The item's name in the map."


def _rebuild(kind: type[HeadraceError], what: str, where: str, allowed: str, do: str) -> HeadraceError:
    return kind(what, where=where, allowed=allowed, do=do)


def close_match(name: str, known: Iterable[str]) -> str:
    """`did you mean "x"? ` or nothing: the opening of a `do` line for a misspelt name."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'did you mean "{found[0]}"? ' if found else ""
