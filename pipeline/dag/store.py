"""The store: where artifacts live. Write, then commit; the manifest comes last, and its presence is completion.

artifacts/<stage>/<key>/    one artifact and its manifest.json
work/<stage>/<key>/         an unfinished one: output/, scratch/, done/; resumable. The work of a node that can follow
                            others has a key of its own, see `Planner.work_key`
locks/<stage>/<key>/        claims of the runs that build it
recipes/<recipe>/<node>     the artifact that a recipe's node last had
built/<stage>.json          the artifact that a stage last built, for any recipe
runs/<run>.json             what a run reached
measured/                   what was measured of work, by what it depends on, for later plans
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.dag.fingerprint import content_digest
from pipeline.dag.folder import Folder, open_folder
from pipeline.errors import ConfigError, InputDataError

MANIFEST = "manifest.json"
LOGS = "logs/"
"Files below are kept with an artifact but are not its content: timings and histories."


@dataclass
class ManifestFile:
    name: str
    size: int
    sha256: str


@dataclass
class Manifest:
    """The descriptor of an artifact."""

    stage: str
    key: str
    kind: str
    node: str
    "The node that built it; another node of the same identity may use it."
    payload: dict[str, Any]
    "The canonical identity: stage, version, config, digests of the inputs."
    inputs: dict[str, list[dict[str, str]]]
    "Port to the artifacts used: node, part, stage, key, digest."
    files: list[ManifestFile]
    counters: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    "Circumstance: when, how long, on what host, with which code commit and library versions."
    format_version: int = 1

    @property
    def origin(self) -> tuple[str, str]:
        """Stage and key: where the store has the artifact."""
        return self.stage, self.key

    @property
    def digest(self) -> str:
        return self.part_digest("")

    def part_digest(self, part: str) -> str:
        """Digest of the content below a top-level folder, or of all of it; names count from that folder."""
        start = len(f"{part}/") if part else 0
        return content_digest((file.name[start:], file.sha256) for file in self.content(part))

    def num_bytes(self, part: str) -> int:
        """Size of the content below a top-level folder, or of all of it."""
        return sum(file.size for file in self.content(part))

    def content(self, part: str) -> list[ManifestFile]:
        """The files below a top-level folder, or all of them; what is kept in `logs/` is no content."""
        prefix = f"{part}/" if part else ""
        return [
            file for file in self.files if file.name.startswith(prefix) and not file.name.startswith(LOGS)
        ]

    def parts(self) -> list[str]:
        """The top-level folders of the artifact."""
        return sorted(
            {name.partition("/")[0] for name in (f.name for f in self.files) if "/" in name} - {"logs"}
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"digest": self.digest}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Manifest":
        known = {name: value for name, value in content.items() if name != "digest"}
        return Manifest(**known | {"files": [ManifestFile(**file) for file in content["files"]]})


@dataclass(frozen=True)
class Artifact:
    folder: Folder
    manifest: Manifest


def read_artifact(folder: Folder) -> Artifact | None:
    """The finished artifact in a folder, or None where it has no manifest.

    Raises:
        InputDataError: the manifest is damaged.
    """
    try:
        content = folder.read_json(MANIFEST)
        return Artifact(folder, Manifest.from_json(content))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputDataError(
            f"the manifest cannot be read: {error}",
            where=f"{folder.url}/{MANIFEST}",
            allowed="the file as it was committed",
            do="put it back, or delete the artifact's folder so that it is built again",
        ) from error


class Store:
    """Artifacts on any filesystem that `pyarrow.fs` reaches.

    Args:
        url: a path or a URL.
    """

    def __init__(self, url: str) -> None:
        self.root = open_folder(url)
        self.url = self.root.url
        if self.root.is_local:
            self._refuse_file(Path(self.root.path))

    @property
    def measured(self) -> Folder:
        """Where what was measured of work is kept."""
        return self.root.child("measured")

    def artifact_folder(self, stage: str, key: str) -> Folder:
        return self.root.child(f"artifacts/{stage}/{key}")

    def work_folder(self, stage: str, key: str) -> Folder:
        return self.root.child(f"work/{stage}/{key}")

    def find(self, stage: str, key: str) -> Artifact | None:
        """The finished artifact of a fingerprint, if there is one."""
        return read_artifact(self.artifact_folder(stage, key))

    def artifacts(self) -> Iterator[Artifact]:
        """Every finished artifact, by stage and key."""
        for stage in self.root.child("artifacts").folders():
            for key in self.root.child(f"artifacts/{stage}").folders():
                if artifact := self.find(stage, key):
                    yield artifact

    def commit(self, manifest: Manifest, work_key: str = "") -> Artifact:
        """Turn a work folder into the artifact: that of the manifest's key, or of `work_key` for a node that followed.

        The manifest is first written into the work folder: from then on a killed commit is completed by
        `recover`, however far it came. It is written into the artifact last.
        """
        work = self.work_folder(manifest.stage, work_key or manifest.key)
        self.artifact_folder(manifest.stage, manifest.key).delete()
        work.write_json(MANIFEST, manifest.to_json())
        self.root.write_json(f"built/{manifest.stage}.json", {"stage": manifest.stage, "key": manifest.key})
        return self._move(manifest, work)

    def recover(self, stage: str, work_key: str) -> Artifact | None:
        """Complete a commit that was killed on its way, if there is one."""
        work = self.work_folder(stage, work_key)
        return (
            self._move(Manifest.from_json(work.read_json(MANIFEST)), work) if work.exists(MANIFEST) else None
        )

    def _move(self, manifest: Manifest, work: Folder) -> Artifact:
        target = self.artifact_folder(manifest.stage, manifest.key)
        output = work.child("output")
        waiting = {entry.name for entry in output.files()}
        for file in manifest.files:
            if file.name in waiting:
                output.move_file(file.name, target)
        target.write_json(MANIFEST, manifest.to_json())
        work.delete()
        return Artifact(target, manifest)

    def last_of(self, recipe: str, node: str) -> tuple[str, str] | None:
        """(stage, key) of the artifact that a recipe's node last had."""
        return self._pointer(f"recipes/{recipe}/{node}.json")

    def note_last(self, recipe: str, node: str, stage: str, key: str) -> None:
        if self.last_of(recipe, node) != (stage, key):
            self.root.write_json(f"recipes/{recipe}/{node}.json", {"stage": stage, "key": key})

    def last_built(self, stage: str) -> tuple[str, str] | None:
        """(stage, key) of the artifact that a stage last built."""
        return self._pointer(f"built/{stage}.json")

    def _pointer(self, name: str) -> tuple[str, str] | None:
        try:
            content = self.root.read_json(name)
        except FileNotFoundError:
            return None
        return content["stage"], content["key"]

    def check_writable(self) -> None:
        """Raises ConfigError where nothing can be written: found before anything is started."""
        try:
            self.root.write_bytes("format", b"headrace store, format 1\n")
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from error

    def _refuse_file(self, path: Path) -> None:
        """A store below a file can neither be read nor written."""
        nearest = next(each for each in (path, *path.parents) if each.exists())
        if not nearest.is_dir():
            raise self._unwritable(f"{nearest} is a file")

    def _unwritable(self, why: str) -> ConfigError:
        return ConfigError(
            f"the store cannot be written: {why}",
            where=f"store={self.url}",
            allowed="a folder or bucket that this user may write to, with room on it",
            do="choose another with store=PATH, mend its permissions, or free some room",
        )
