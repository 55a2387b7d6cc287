"""What a node can say of its work beforehand, and what it can ask of those that it takes from."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.dag.folder import Folder

if TYPE_CHECKING:
    from pipeline.dag.stage import Stage


@dataclass(frozen=True)
class Source:
    """A node that another takes from."""

    stage: "Stage"
    folder: Folder | None
    "Of its artifact; None: it is still to be built."


@dataclass(frozen=True)
class Foresight:
    """What `plan` can say of a node beforehand."""

    figures: dict[str, float]
    "The estimate, and what doing it takes, such as GiB of a rank, by name."
    remarks: list[str] = field(default_factory=list)
    "In words, such as which settings would be chosen and why."
    seconds: float | None = None
    "How long it will take, where there is something better to go by than what other nodes of the stage took."
