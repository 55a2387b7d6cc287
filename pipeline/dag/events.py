"""What the runner tells while a DAG runs: the report draws it, the tracker records it."""

from dataclasses import dataclass, field
from enum import Enum


class Status(Enum):
    """What is known of a node beforehand."""

    REUSE = "reuse"
    "Its artifact is in the store."
    RUN = "run"
    "It has to be built, and its inputs are known."
    WAIT = "wait"
    "It depends on a node that will be built: reused after all if that gives the same bytes."
    PINNED = "pinned"
    "An existing artifact stands in for it by request."


@dataclass(frozen=True)
class PlannedNode:
    node: str
    stage: str
    status: Status
    reasons: list[str] = field(default_factory=list)
    "Why it has to run, one line each; empty when reused."
    inputs: list[str] = field(default_factory=list)
    "Names of the nodes it takes from."


@dataclass(frozen=True)
class RunStarted:
    run_id: str
    recipe: str
    nodes: list[PlannedNode]
    "In topological order."
    store: str
    log_path: str


@dataclass(frozen=True)
class NodeStarted:
    node: str
    stage: str
    key: str
    params: dict[str, object] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeProgress:
    node: str
    done: int
    total: int
    "0 when it is not known."
    unit: str
    note: str = ""


@dataclass(frozen=True)
class NodeMetrics:
    node: str
    metrics: dict[str, float]
    step: int
    tokens: int = 0


@dataclass(frozen=True)
class NodeNote:
    """One line that a person should read; of the whole run when `node` is empty."""

    node: str
    text: str


@dataclass(frozen=True)
class NodeReused:
    node: str
    stage: str
    key: str
    url: str


@dataclass(frozen=True)
class NodeFinished:
    node: str
    stage: str
    key: str
    url: str
    digest: str
    seconds: float
    counters: dict[str, int]
    metrics: dict[str, float]
    pages: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    "What names the bytes it was built from: of a node that followed others, known only now."


@dataclass(frozen=True)
class NodeFailed:
    node: str
    error: Exception
    interrupted: bool = False


@dataclass(frozen=True)
class RunFinished:
    status: str
    "FINISHED, FAILED or KILLED, as MLflow spells them."
    seconds: float
    built: int
    reused: int
    failed: int


Event = (
    RunStarted
    | NodeStarted
    | NodeProgress
    | NodeMetrics
    | NodeNote
    | NodeReused
    | NodeFinished
    | NodeFailed
    | RunFinished
)
