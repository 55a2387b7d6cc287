"""A file of a corpus: what it is called, where it lies, and how it is opened."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from data.errors import DataError

REMOTE_BUFFER_BYTES = 2 << 20
"Read at once from another machine, where each read is a request, and what is read beyond a part is read twice."


@dataclass(frozen=True, slots=True)
class Root:
    """The folder that the names of some files begin in."""

    path: str
    filesystem: Any = None
    "A `pyarrow.fs.FileSystem` that `path` is on; None: this machine's own."
    url: str = ""
    "What a person types to come to a remote one."


@dataclass(frozen=True, order=True, slots=True)
class SourceFile:
    """A file of the corpus; small, since a corpus may have ten million."""

    name: str
    "Relative path with forward slashes; unique in a corpus, valid Unicode."
    root: Root = field(compare=False)
    num_bytes: int
    "Its size as it lies there (compressed, if it is)."
    inner: str = ""
    "Its path below the root where that is not `name`: it is no Unicode."
    stamp: str = ""
    "Of a remote file: size and modification time, which are its identity."

    @property
    def is_remote(self) -> bool:
        return self.root.filesystem is not None

    @property
    def path(self) -> str:
        """Where it lies: a path on this machine, or a URL."""
        base, mark, query = (self.root.url or self.root.path).partition("?" if self.is_remote else "\0")
        return f"{base.rstrip('/')}/{self.inner or self.name}{mark}{query}"

    def open(self) -> BinaryIO:
        """The file for reading, seekable.

        Raises:
            OSError: it cannot be opened.
            DataError: a remote file is no longer the one that was listed.
        """
        if not self.is_remote:
            return Path(self.path).open("rb")
        inner = f"{self.root.path}/{self.name}"
        found = stamp_of(self.root.filesystem.get_file_info(inner))
        if found != self.stamp:
            raise DataError(
                f"the file has changed since it was listed: size and time were {self.stamp}, are {found}",
                where=self.path,
                allowed="files that stay as they are while they are read",
                do="start again, so that the corpus is listed anew",
            )
        opened = self.root.filesystem.open_input_file(inner)
        return cast("BinaryIO", io.BufferedReader(opened, REMOTE_BUFFER_BYTES))


def local_file(path: Path) -> SourceFile:
    """A file of this machine, called by its last component."""
    return SourceFile(path.name, Root(str(path.parent)), path.stat().st_size)


def stamp_of(info: Any) -> str:
    """Size and modification time (ns) of a `pyarrow.fs.FileInfo`, as text."""
    return f"{info.size}:{info.mtime_ns}"
