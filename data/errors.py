"""What a reader of this package is told when the data, or a rule about it, is wrong: four parts, no default."""

from typing import NamedTuple


class DataError(Exception):
    """The data is wrong, in words: what is wrong, where, what is allowed, what to do.

    The command line prints the four parts and ends with `exit_code`; the error crosses process borders whole.
    """

    exit_code = 3

    def __init__(self, what: str, *, where: str = "", allowed: str = "", do: str = "") -> None:
        super().__init__(what, where, allowed, do)
        self.what, self.where, self.allowed, self.do = what, where, allowed, do

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.allowed, self.do)

    def __str__(self) -> str:
        parts = (("", self.what), ("where: ", self.where), ("allowed: ", self.allowed), ("do: ", self.do))
        return "\n".join(f"{label}{text}" for label, text in parts if text)


def _rebuild(kind: type[DataError], what: str, where: str, allowed: str, do: str) -> DataError:
    return kind(what, where=where, allowed=allowed, do=do)


class Problem(NamedTuple):
    """A field of a rules dataclass that cannot be; whoever embeds the rules adds the dotted path."""

    field: str
    what: str
    allowed: str
    do: str = ""
