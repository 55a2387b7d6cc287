"""A place in the store: a folder on any `pyarrow.fs` filesystem, local or remote, with atomic writes."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from pipeline.errors import ConfigError

TEMPORARY_PREFIX = ".tmp-"
"Files being written; listings leave them out, and they vanish with their work folder."


@dataclass(frozen=True)
class FileEntry:
    name: str
    "Relative to the folder that listed it, with `/` between the steps."
    size: int
    "Bytes."


@dataclass(frozen=True)
class Folder:
    """A folder on a filesystem. It need not exist: it begins with the first file written into it.

    Names are relative, with `/` between the steps. Every write is atomic: a reader sees the whole file or none,
    and a killed writer leaves only a temporary file that listings ignore. Folders pickle, so that tasks on
    other machines can use them.
    """

    filesystem: Any
    "A `pyarrow.fs.FileSystem`."
    path: str
    "The folder's path on that filesystem."
    url: str
    "What a person types to come here again: a path, or a URL."

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def child(self, name: str) -> "Folder":
        base, mark, query = self.url.partition("?")
        return Folder(self.filesystem, f"{self.path}/{name}", f"{base.rstrip('/')}/{name}{mark}{query}")

    def exists(self, name: str) -> bool:
        return bool(self.filesystem.get_file_info(self.at(name)).type != fs.FileType.NotFound)

    def files(self, suffix: str = "") -> list[FileEntry]:
        """Every file below, at any depth, sorted by name; nothing where the folder does not exist."""
        found = self.filesystem.get_file_info(
            fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        )
        entries = [
            FileEntry(info.path[len(self.path) :].lstrip("/"), info.size)
            for info in found
            if info.type == fs.FileType.File
            and info.path.endswith(suffix)
            and not info.base_name.startswith(TEMPORARY_PREFIX)
        ]
        return sorted(entries, key=lambda entry: entry.name)

    def folders(self) -> list[str]:
        """Names of the folders directly below, sorted."""
        found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def opening(self, name: str) -> Any:
        """The file for reading: a memory map where the filesystem is local."""
        if self.is_local:
            return pa.memory_map(self.at(name), "r")
        return self.filesystem.open_input_file(self.at(name))

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A binary sink that becomes the file when the block ends well, and nothing when it does not."""
        target = Path(self.at(name))
        if self.is_local:
            target.parent.mkdir(parents=True, exist_ok=True)
        # A remote stream would publish half a file when it is dropped, so remote writes are gathered here first.
        directory = target.parent if self.is_local else None
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=directory)
        try:
            with os.fdopen(handle, "wb") as sink:
                yield sink
                sink.flush()
                if self.is_local:
                    os.fsync(sink.fileno())
            if self.is_local:
                Path(temporary).chmod(0o644)
                Path(temporary).replace(target)
            else:
                self.upload(Path(temporary), name)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def read_bytes(self, name: str) -> bytes:
        with self.filesystem.open_input_file(self.at(name)) as source:
            return cast("bytes", source.read())

    def write_bytes(self, name: str, content: bytes) -> None:
        with self.writing(name) as sink:
            sink.write(content)

    def read_json(self, name: str) -> Any:
        return json.loads(self.read_bytes(name))

    def write_json(self, name: str, content: Any) -> None:
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
        self.write_bytes(name, text.encode() + b"\n")

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file, or a local folder with all below it, to `name`."""
        if source.is_dir():
            for inner in sorted(path for path in source.rglob("*") if path.is_file()):
                self.upload(inner, f"{name}/{inner.relative_to(source).as_posix()}")
        elif self.is_local:
            with self.writing(name) as sink, source.open("rb") as content:
                shutil.copyfileobj(content, sink, 1 << 20)
        else:
            fs.copy_files(str(source), self.at(name), fs.LocalFileSystem(), self.filesystem)

    def upload_all(self, source: Path) -> None:
        """Copy what lies in a local folder, under the same names."""
        for path in sorted(source.iterdir()):
            self.upload(path, path.name)

    def move_file(self, name: str, target: "Folder") -> None:
        """Move one file to the same name in `target` (on the same filesystem), replacing what is there."""
        if self.is_local:
            Path(target.at(name)).parent.mkdir(parents=True, exist_ok=True)
        self.filesystem.move(self.at(name), target.at(name))

    def delete(self, name: str = "") -> None:
        """Remove a file, or a folder with all below it; nothing happens where there is nothing."""
        path = self.at(name) if name else self.path
        info = self.filesystem.get_file_info(path)
        with contextlib.suppress(FileNotFoundError):
            if info.type == fs.FileType.Directory:
                self.filesystem.delete_dir(path)
            elif info.type == fs.FileType.File:
                self.filesystem.delete_file(path)

    def digest(self, name: str) -> str:
        """SHA-256 of a file's bytes, in hex."""
        if self.is_local:
            with Path(self.at(name)).open("rb") as source:
                return hashlib.file_digest(source, "sha256").hexdigest()
        total = hashlib.sha256()
        with self.filesystem.open_input_file(self.at(name)) as source:
            while content := source.read(1 << 22):
                total.update(content)
        return total.hexdigest()

    def local(self) -> Path:
        """The folder on this machine: itself where it is local, else a copy in the machine's cache.

        A file is fetched once: the copy is keyed by URL, size and name, and artifacts never change.
        """
        if self.is_local:
            return Path(self.path)
        for entry in self.files():
            self._fetch(entry, _copies_of(self))
        return _copies_of(self)

    def local_file(self, name: str, *, keep_as: "Folder") -> Path:
        """One file on this machine, as `local` has it; a copy is kept as that of the folder `keep_as`."""
        if self.is_local:
            return Path(self.at(name))
        size = self.filesystem.get_file_info(self.at(name)).size or 0
        return self._fetch(FileEntry(name, size), _copies_of(keep_as))

    def _fetch(self, entry: FileEntry, root: Path) -> Path:
        copy = root / entry.name
        if not copy.exists() or copy.stat().st_size != entry.size:
            copy.parent.mkdir(parents=True, exist_ok=True)
            temporary = copy.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{copy.name}")
            fs.copy_files(self.at(entry.name), str(temporary), self.filesystem, fs.LocalFileSystem())
            temporary.replace(copy)
        return copy

    def at(self, name: str) -> str:
        """The path of `name` on this folder's filesystem."""
        return f"{self.path}/{name}"


def machine_cache() -> Path:
    """Where this machine keeps what belongs to remote stores: copies, digests, logs."""
    return Path(os.environ.get("HEADRACE_CACHE", Path.home() / ".cache" / "headrace"))


def _copies_of(folder: Folder) -> Path:
    return machine_cache() / hashlib.sha256(folder.url.encode()).hexdigest()[:24]


def open_folder(url: str) -> Folder:
    """The folder at a path or at a URL that `pyarrow.fs` knows (s3://, gs://, hdfs://, file://).

    Raises:
        ConfigError: the scheme is unknown or the URL cannot be read.
    """
    if "://" not in url:
        path = Path(url).expanduser().absolute()
        return Folder(fs.LocalFileSystem(), str(path), str(path))
    try:
        filesystem, path_on_it = fs.FileSystem.from_uri(url)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise ConfigError(
            f'the location "{url}" cannot be opened: {error}',
            where="store",
            allowed="a path, or a URL that begins with s3://, gs://, hdfs:// or file://",
            do="correct the URL; an S3 endpoint is given as s3://bucket/path?endpoint_override=HOST:PORT&scheme=http",
        ) from error
    if urlsplit(url).scheme == "file":
        return Folder(filesystem, path_on_it, path_on_it)
    return Folder(filesystem, path_on_it.rstrip("/"), url)
