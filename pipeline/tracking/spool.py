"""Records on their way to MLflow: a file of JSON lines, and beside it how far they were delivered."""

import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

READ_BYTES = 1 << 20
"How much of a spool is read at once."


@dataclass
class Position:
    """How far a spool was delivered, and what the rest of it needs to know."""

    offset: int = 0
    "Bytes of the spool that MLflow has."
    runs: dict[str, str] = field(default_factory=dict)
    "Node name to MLflow run id; the parent run has the empty name."
    steps: dict[str, int] = field(default_factory=dict)
    "Node name to the last step of its metrics."
    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    "Node name to the last step of each metric that MLflow had when the node was continued."


class Spool:
    """One file that one process appends to and one thread delivers from.

    It survives the death of its process at any byte: a line cut short is not a record. A lock on the file says
    whether its owner lives, on every filesystem that has `flock`.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle
        self._appending = threading.Lock()
        self._position_path = path.with_suffix(".delivered")
        self.position = self._load_position()

    @classmethod
    def create(cls, folder: Path, *, uri: str) -> Self:
        """A new spool whose records are for the tracking server at `uri`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.jsonl"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        spool = cls(path, handle)
        spool.append({"op": "open", "uri": uri})
        spool.position.offset = os.fstat(handle).st_size
        return spool

    @classmethod
    def abandoned(cls, folder: Path, *, uri: str) -> Iterator[Self]:
        """Spools for `uri` whose owners are dead, oldest first; each is held while it is yielded."""
        for path in sorted(folder.glob("*.jsonl")):
            spool = cls._claim(path, uri)
            if spool is not None:
                try:
                    yield spool
                finally:
                    spool.close()

    @classmethod
    def _claim(cls, path: Path, uri: str) -> Self | None:
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            header = json.loads(os.pread(handle, READ_BYTES, 0).split(b"\n", 1)[0] or b"{}")
        except (OSError, ValueError):
            header = {}
        if header.get("uri") == uri and path.exists():
            return cls(path, handle)
        os.close(handle)
        return None

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; it is safe from the death of this process when the call returns."""
        line = json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n"
        with self._appending:
            os.write(self._handle, line)

    def pending(self) -> list[tuple[dict[str, Any], int]]:
        """The next records, each with the offset that follows it; empty when all is delivered."""
        size = READ_BYTES
        while True:
            content = os.pread(self._handle, size, self.position.offset)
            if b"\n" in content or len(content) < size:
                break
            size *= 2
        records, offset = [], self.position.offset
        for line in content[: content.rfind(b"\n") + 1].splitlines(keepends=True):
            offset += len(line)
            try:
                records.append((json.loads(line), offset))
            except ValueError:
                records.append(({"op": "torn"}, offset))
        return records

    def remaining(self) -> int:
        """The number of records not yet delivered."""
        total, offset = 0, self.position.offset
        while content := os.pread(self._handle, READ_BYTES, offset):
            total += content.count(b"\n")
            offset += len(content)
        return total

    def advance(self, offset: int) -> None:
        """Remember that everything before `offset`, and `position` as it is now, was delivered."""
        self.position.offset = offset
        temporary = self._position_path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self.position)), encoding="utf-8")
        temporary.replace(self._position_path)

    def remove(self) -> None:
        """Forget a spool that was delivered whole."""
        self.path.unlink(missing_ok=True)
        self._position_path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._handle)

    def _load_position(self) -> Position:
        try:
            return Position(**json.loads(self._position_path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Position()
