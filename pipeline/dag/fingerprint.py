"""Identity: canonical values, the fingerprint of a node, the digest of files, and why two payloads differ."""

import dataclasses
import hashlib
import json
import math
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline.dag.stage import Stage, is_as_before

KEY_LENGTH = 32
"Hex digits of a fingerprint: 128 bits."
REMEMBERED_AT_ONCE = 1 << 13
"Digests in one transaction."


def canonical(value: Any) -> Any:
    """`value` as plain JSON values, the same for the same meaning.

    Dataclasses become their fields, enums their names, tuples lists. Left out are fields marked as circumstance, and
    those marked as added later that have their default: what was computed before they were there stays what it is.

    Raises:
        TypeError: the value has no canonical form (a function, a set, an arbitrary object, a NaN).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        identity = (
            each
            for each in dataclasses.fields(value)
            if not each.metadata.get("circumstance") and not is_as_before(each, getattr(value, each.name))
        )
        return {each.name: canonical(getattr(value, each.name)) for each in identity}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: canonical(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [canonical(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{value} has no canonical form: only finite numbers enter a fingerprint")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"a {type(value).__name__} has no canonical form and cannot enter a fingerprint: {value!r}"
    )


def payload(stage: Stage, inputs: Mapping[str, Sequence[str]], files: str = "") -> dict[str, Any]:
    """All that a node's result depends on.

    Args:
        stage: the node's settings.
        inputs: port name to content digests, in order.
        files: digest over the external files, or an empty string.
    """
    found = {
        "stage": stage.name,
        "version": stage.version,
        "config": canonical(stage.identity()),
        "inputs": {name: list(digests) for name, digests in inputs.items() if digests},
    }
    return found | ({"files": files} if files else {})


def fingerprint(of_payload: Mapping[str, Any]) -> str:
    """The key of a payload: the beginning of the SHA-256 of its canonical JSON."""
    text = json.dumps(of_payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def content_digest(files: Iterable[tuple[str, str]]) -> str:
    """One digest over (name, SHA-256) pairs, in any order."""
    total = hashlib.sha256()
    for name, digest in sorted(files):
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """The leaves in which two canonical values differ, as (dotted path, old, new); `None` where one lacks it."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        return [
            found
            for name in names
            for found in differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if old == new else [(path, old, new)]


class DigestMemory:
    """Remembers the SHA-256 of files by path, size and modification time, so that a second look is cheap."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open(str(path))
        except (
            OSError,
            sqlite3.OperationalError,
        ):  # a store that may only be read is planned without a memory
            self._open(":memory:")

    def _open(self, path: str) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS digest (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT)"
        )

    def digests(self, paths: Sequence[str]) -> list[str]:
        """SHA-256 of each local file, read only where its size or modification time is new.

        Raises:
            OSError: a file cannot be read.
        """
        found: list[str] = []
        fresh: list[tuple[str, str, str]] = []
        for path in paths:
            stamp = _stamp(path)
            digest = self._known(path, stamp)
            if digest is None:
                with Path(path).open("rb") as source:
                    digest = hashlib.file_digest(source, "sha256").hexdigest()
                fresh.append((path, stamp, digest))
                if len(fresh) == REMEMBERED_AT_ONCE:  # what an interrupted look has read is not read again
                    self._remember(fresh)
                    fresh = []
            found.append(digest)
        self._remember(fresh)
        return found

    def remember(self, path: str, sha256: str) -> None:
        """Note a digest that the caller has just computed."""
        self._remember([(path, _stamp(path), sha256)])

    def _known(self, path: str, stamp: str) -> str | None:
        with self._lock:
            row = self._database.execute(
                "SELECT stamp, sha256 FROM digest WHERE path = ?", (path,)
            ).fetchone()
        return row[1] if row and row[0] == stamp else None

    def _remember(self, rows: list[tuple[str, str, str]]) -> None:
        if not rows:
            return
        with self._lock:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO digest VALUES (?, ?, ?)", rows)
            self._database.execute("COMMIT")


def _stamp(path: str) -> str:
    status = Path(path).stat()
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
