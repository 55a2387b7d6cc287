"""What a stage is: a dataclass that declares its inputs, its identity and how it runs. Declaring runs nothing."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from pipeline.dag.folder import Folder
from pipeline.dag.foresight import Foresight, Source
from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.dag.following import Following
    from pipeline.dag.store import Manifest


class Problem(NamedTuple):
    """Something wrong in a config, said by the dataclass that knows; the caller adds the dotted path."""

    field: str
    what: str
    allowed: str
    do: str


def below(field: str, problems: Iterable[Any]) -> list[Problem]:
    """The problems of a nested dataclass, their fields prefixed."""
    return [
        Problem(f"{field}.{each.field}", each.what, each.allowed, each.do or f"set it to {each.allowed}")
        for each in problems
    ]


def refuse_first(problems: Iterable[Problem]) -> None:
    """Raises ConfigError where there is a problem, with its field as the place."""
    for each in problems:
        raise ConfigError(each.what, where=each.field, allowed=each.allowed, do=each.do)


def port(*kinds: str) -> Any:
    """An input that accepts artifacts of these kinds: the name of a node, or `node/part` for a part of its artifact."""
    return field(default="", metadata={"kinds": kinds})


def optional_port(*kinds: str) -> Any:
    """An input that may stay empty."""
    return field(default="", metadata={"kinds": kinds, "optional": True})


def many_ports(*kinds: str) -> Any:
    """An input that takes a list of nodes, at least one."""
    return field(default_factory=list, metadata={"kinds": kinds})


def one_or_many_ports(*kinds: str) -> Any:
    """An input that takes a node, or a list of nodes; declare it as `Any`."""
    return field(default="", metadata={"kinds": kinds})


def circumstance(default: Any) -> Any:
    """A field that does not change the result, and so is no part of the fingerprint."""
    metadata = {"circumstance": True}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def is_as_before(of: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field that was added later has its default, so that what was computed without it stays what it is."""
    if not of.metadata.get("added_later"):
        return False
    default = of.default if of.default_factory is dataclasses.MISSING else of.default_factory()
    return bool(value == default)


@dataclass
class NoInputs:
    """The inputs of a stage that begins from files outside."""


@dataclass
class Stage:
    """A kind of work. Subclasses name their ports in a nested `Inputs` dataclass and their settings as fields."""

    name: ClassVar[str] = ""
    "What the stage is called in recipes and in the store."
    version: ClassVar[int] = 1
    "Raised by hand when the same config and inputs begin to mean another result."
    produces: ClassVar[str] = ""
    "The kind of its artifact."

    def ports(self) -> dict[str, tuple[tuple[str, ...], list[str], bool]]:
        """Port name to (accepted kinds, references given, whether it may stay empty)."""
        inputs = getattr(self, "inputs", None) or NoInputs()
        found = {}
        for each in dataclasses.fields(inputs):
            given = getattr(inputs, each.name)
            references = list(given) if isinstance(given, list | tuple) else [given]
            optional = bool(each.metadata.get("optional"))
            found[each.name] = (each.metadata["kinds"], [name for name in references if name], optional)
        return found

    def identity(self) -> dict[str, Any]:
        """The fields that change the result, as plain values for the fingerprint."""
        return {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.name != "inputs"
            and not each.metadata.get("circumstance")
            and not is_as_before(each, getattr(self, each.name))
        }

    def external_files(self) -> "list[ExternalFile]":
        """Files from outside the store whose bytes are identity; none for most stages."""
        return []

    def problems(self) -> list[Problem]:
        """What is wrong with the settings, found before anything runs."""
        return []

    def input_problems(self, sources: "Mapping[str, list[Stage]]") -> list[Problem]:
        """What cannot work with the stages that it takes from, by port, found before anything runs."""
        del sources
        return []

    def resource_problems(self, resources: Resources) -> list[Problem]:
        """What cannot work with these resources, found before anything runs; the field is one of `Resources`."""
        del resources
        return []

    def estimate(self, inputs: "Mapping[str, list[Manifest]]", resources: Resources) -> dict[str, float]:
        """What is to be done, as far as it is known beforehand: tokens, steps, FLOPs, bytes, by name.

        Args:
            inputs: the manifests of those inputs that are built already.
            resources: what the node may use.
        """
        del inputs, resources
        return {}

    def foresee(
        self,
        inputs: "Mapping[str, list[Manifest]]",
        resources: Resources,
        *,
        measured: Folder,
        sources: Mapping[str, list[Source]],
    ) -> Foresight:
        """All that `plan` can say: the estimate, and what doing it takes.

        Args:
            inputs: the manifests of those inputs that are built already.
            resources: what the node may use.
            measured: where the store keeps what was measured of such work.
            sources: what it takes from, by port.
        """
        del measured, sources
        return Foresight(self.estimate(inputs, resources))

    def announced(self, inputs: "Mapping[str, list[Input]]") -> tuple[str, ...]:
        """The files that it will write, in the order of their names' meaning to a reader, so that others may follow.

        Each is whole as soon as it is there. Empty: not known beforehand, and whoever takes from it waits.
        """
        del inputs
        return ()

    def follows(self) -> frozenset[str]:
        """The ports at which it takes an artifact that is still being written, where that one can be followed."""
        return frozenset()

    def reported_metrics(self) -> tuple[str, ...]:
        """The metrics that it will report, as far as the settings tell: what a search can decide by."""
        return ()

    def run(self, context: "StageContext") -> "StageResult":
        """Do the work: write the artifact's files under `context.output`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """A file from outside: its name within the corpus (identity) and where it lies (circumstance)."""

    name: str
    path: str
    digest: str = ""
    "What stands for its bytes in the identity, where the stage says so; empty: the SHA-256 of the local file."


@dataclass(frozen=True)
class Input:
    """One artifact, or a part of one, at a port of a running stage."""

    node: str
    part: str
    "The part of the artifact, or an empty string for the whole of it."
    kind: str
    folder: Folder
    manifest: "Manifest"
    following: "Following | None" = None
    "Its files as they come, where it is still being written; the manifest then has no digests yet."

    @property
    def reference(self) -> str:
        """The node, and the part if there is one, as a recipe names them."""
        return f"{self.node}/{self.part}" if self.part else self.node


@dataclass
class StageResult:
    """What a stage leaves in its manifest beside its files."""

    counters: dict[str, int] = field(default_factory=dict)
    "Whole numbers that add up: documents in, kept, dropped by reason, tokens."
    metrics: dict[str, float] = field(default_factory=dict)
    "Measurements of the result: losses, scores, fractions."
    pages: dict[str, str] = field(default_factory=dict)
    "File name to a small text or HTML page that the record of the run shows too."


class Channel(Protocol):
    """Where a running stage, on any machine, sends its events; it never blocks and never fails the sender."""

    def send(self, event: dict[str, Any]) -> None: ...


@dataclass
class StageContext:
    """What a running stage sees: its inputs, where to write, what it may use, and whom to tell."""

    node: str
    key: str
    "The node's fingerprint; while it follows others, the name of its work."
    inputs: dict[str, list[Input]]
    output: Folder
    "What is written below becomes the artifact; `logs/` is kept but is not content."
    scratch: Folder
    "State to resume from, such as checkpoints; gone once the artifact is committed."
    resources: Resources
    channel: Channel
    map: "MapTasks"
    is_followed: bool = False
    "Whether another node reads the files as they come, in the order that was announced."
    tracking_uri: str = ""
    "Where MLflow keeps runs and models."
    registry_uri: str = ""
    "Where MLflow keeps the model registry; empty: at `tracking_uri`."
    measured: Folder | None = None
    "Where the store keeps what was measured of work, for later plans."
    lineage: dict[str, str] = field(default_factory=dict)
    "Every node above this one, with its fingerprint."
    stop: Event = field(default_factory=Event)
    "Set when the run is given up: whoever waits, ends."

    def one(self, name: str) -> Input:
        """The artifact at a port that takes exactly one."""
        return self.inputs[name][0]

    def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
        self.channel.send({"kind": "progress", "done": done, "total": total, "unit": unit, "note": note})


class MapTasks(Protocol):
    """Runs one Ray task per item, bounded in flight, retried when a worker is lost."""

    def __call__(
        self,
        function: Callable[..., dict[str, Any]],
        items: Mapping[str, tuple[Any, ...]],
        *,
        unit: str = "shards",
        num_cpus: float = 1,
        num_gpus: float = 0,
    ) -> dict[str, dict[str, Any]]:
        """Name to result. A finished item is recorded, and skipped when the node is resumed.

        `function(*item)` returns what JSON can hold; its name and the item's name identify the work.
        """
        ...
