"""Following: a node begins on an artifact that another node is still writing. Its result is as if it had waited.

A stage that can be followed says beforehand which files it will write (`Stage.announced`); a file that is there is
final. A stage that can follow says at which ports (`Stage.follows`), and waits for each file when it needs it.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.dag.folder import Folder
from pipeline.dag.graph import Edge
from pipeline.dag.stage import Input
from pipeline.dag.store import Manifest, ManifestFile
from pipeline.errors import StageFailedError

POLL_SECONDS, REMOTE_POLL_SECONDS = 0.2, 2.0
TELL_SECONDS = 5.0
"After which a reader says what it waits for, and again for each file it waits so long for."


@dataclass(frozen=True)
class Following:
    """The files of an artifact, or of a part of it, as they come; picklable."""

    source: str
    "The node, and the part if there is one."
    names: tuple[str, ...]
    "In the order in which they are to be read."
    output: Folder
    "Where they are written."
    target: Folder
    "Where they will be once the artifact is committed."
    claims: Folder
    "Of the runs that build the artifact."

    def __len__(self) -> int:
        return len(self.names)

    def wait(self, number: int, tell: Callable[[str], None] = lambda _text: None) -> Path:
        """Where file `number` lies on this machine, once it is there.

        Raises:
            StageFailedError: it is not there, and nobody builds it any more.
        """
        name = self.names[number]
        tell_at = time.monotonic() + TELL_SECONDS
        while True:
            is_built = bool(self.claims.files(".json"))
            if found := self._found(name):
                return found
            if not is_built:
                raise StageFailedError(
                    f'"{self.source}", which this node follows, was given up before {name}',
                    where=self.target.url,
                    allowed="a node that is built to its end",
                    do="mend what made it fail, and run the same command again: both continue where they stopped",
                )
            if time.monotonic() > tell_at:
                tell(f"waits for {self.source}: {number} of {len(self.names)} files are there")
                tell_at = float("inf")
            time.sleep(POLL_SECONDS if self.target.is_local else REMOTE_POLL_SECONDS)

    def _found(self, name: str) -> Path | None:
        for folder in (self.target, self.output, self.target):  # it moves from one to the other in one step
            with suppress(FileNotFoundError):
                if folder.exists(name):
                    return folder.local_file(name, keep_as=self.target)
        return None


@dataclass(frozen=True)
class Growing:
    """An artifact that a node of this run is writing.

    Args:
        node: who writes.
        stage, key, kind: of the artifact to be.
        names: of the files that it will have, in the order in which they are to be read.
        work: the node's work folder.
        target: where the artifact will be.
        claims: of the runs that build it.
    """

    node: str
    stage: str
    key: str
    kind: str
    names: tuple[str, ...]
    work: Folder
    target: Folder
    claims: Folder

    def input(self, edge: Edge) -> Input:
        """What a follower gets in place of the finished artifact: its manifest knows the names of files, no digests."""
        part = f"{edge.part}/" if edge.part else ""
        output = self.work.child("output")
        following = Following(
            str(edge),
            tuple(name.removeprefix(part) for name in self.names if name.startswith(part)),
            output.child(edge.part) if part else output,
            self.target.child(edge.part) if part else self.target,
            self.claims,
        )
        files = [ManifestFile(name, 0, "") for name in self.names]
        manifest = Manifest(self.stage, self.key, self.kind, self.node, payload={}, inputs={}, files=files)
        return Input(edge.node, edge.part, self.kind, following.target, manifest, following)
