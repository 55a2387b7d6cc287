"""What a run tells the person who watches it. The runner makes these; a report shows them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PlannedNode:
    name: str
    stage: str
    status: str
    "`reuse`, `run`, or `wait` for a node whose need shows when its inputs are done."
    reason: str = ""
    "Why it runs: `new`, or what changed."


@dataclass(frozen=True)
class RunStarted:
    nodes: list[PlannedNode]
    "In topological order."
    store: str
    "Path or URL."
    log_path: str
    tracking_uri: str = ""
    recipe: str = ""


@dataclass(frozen=True)
class NodeStarted:
    node: str
    resumed: str = ""
    "What it continues from, in words; empty when it begins anew."


@dataclass(frozen=True)
class Progress:
    node: str
    done: int
    total: int
    "0 when it is not known."
    unit: str
    note: str = ""
    "What to say beside the bar, such as `loss 3.21`."


@dataclass(frozen=True)
class NodeFinished:
    node: str
    seconds: float
    counters: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    artifact: str = ""
    "Where the artifact lies."


@dataclass(frozen=True)
class NodeReused:
    node: str
    artifact: str = ""


@dataclass(frozen=True)
class NodeFailed:
    node: str
    seconds: float
    parts: list[tuple[str, str]]
    "The error as `HeadraceError.parts()` gives it."


@dataclass(frozen=True)
class NodeSkipped:
    node: str
    reason: str
    "Such as `base failed`."


@dataclass(frozen=True)
class Note:
    node: str
    "Empty for a note about the whole run."
    text: str


@dataclass(frozen=True)
class RunFinished:
    seconds: float
    outcome: str
    "`done`, `failed` or `interrupted`."
    undelivered: int = 0
    "Tracking records that MLflow does not have yet."


Event = (
    RunStarted
    | NodeStarted
    | Progress
    | NodeFinished
    | NodeReused
    | NodeFailed
    | NodeSkipped
    | Note
    | RunFinished
)
