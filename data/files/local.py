"""Files of this machine: a path, a folder, or a glob."""

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath

from data.errors import DataError
from data.files.globs import depth_of, glob_regex, has_wildcard, names_hidden
from data.files.source import Root, SourceFile


def find_local(pattern: str) -> Iterator[SourceFile]:
    """The files that a path, a folder or a glob finds, in a fixed order."""
    place, rest = _split(pattern)
    if rest:
        matched = glob_regex(rest)
        files = walk(Root(str(place)), hidden=names_hidden(rest), max_depth=depth_of(rest))
        yield from (file for file in files if matched.match(file.name))
    elif place.is_file():
        yield _source_file(Root(str(place.parent)), place.name, place.stat().st_size)
    else:
        yield from walk(Root(str(place)))


def walk(
    root: Root, *, hidden: bool = False, max_depth: int | None = None, skip: AbstractSet[str] = frozenset()
) -> Iterator[SourceFile]:
    """The files below a folder in a fixed order; follows symbolic links, but into each real folder once.

    Args:
        root: the folder; nothing is found where it does not exist.
        hidden: whether names that begin with a dot are walked too.
        max_depth: components of a name at most; None: any.
        skip: names of folders that are not entered.

    Raises:
        DataError: a folder cannot be listed, which would be files lost without a word.
    """
    seen: set[str] = set()
    waiting = [("", os.path.realpath(root.path))]  # below the root, and where that really is
    while waiting:
        inner, real = waiting.pop()
        if real in seen:
            continue
        seen.add(real)
        entries = [entry for entry in _entries(f"{root.path}/{inner}") if hidden or entry.name[0] != "."]
        is_deepest = max_depth is not None and inner.count("/") >= max_depth - 1
        folders = []
        for entry in entries:
            if not _is_folder(entry):
                if _is_file(entry):
                    yield _source_file(root, inner + entry.name, _size_of(entry))
            elif not is_deepest and entry.name not in skip:
                folders.append((f"{inner}{entry.name}/", _real(entry, real)))
        waiting += reversed(folders)


def is_link(file: SourceFile) -> bool:
    return os.path.islink(file.path)  # noqa: PTH114 - ten million Path objects take a minute


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(
            f"a folder cannot be listed: {error.strerror}",
            where=folder,
            allowed="folders that this user may read",
            do="correct its permissions, or name other folders in the paths",
        ) from error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: "os.DirEntry[str]") -> bool:
    """Also a link that leads nowhere: left out, what it stands for would be lost without a word."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))  # noqa: PTH110
    except OSError:  # a link to itself
        return True


def _size_of(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _real(entry: "os.DirEntry[str]", parent: str) -> str:
    return os.path.realpath(entry.path) if entry.is_symlink() else f"{parent}/{entry.name}"


def _split(pattern: str) -> tuple[Path, str]:
    """The folder or file before the first component with a wildcard, and the components from there on."""
    parts = PurePosixPath(Path(pattern).expanduser()).parts
    if Path(*parts).exists():  # also a real file with a bracket in its name
        return Path(*parts), ""
    wild = next((k for k, part in enumerate(parts) if has_wildcard(part)), len(parts))
    return Path(*parts[:wild]), "/".join(parts[wild:])


def _source_file(root: Root, inner: str, num_bytes: int) -> SourceFile:
    try:
        inner.encode()
    except UnicodeEncodeError:
        name = inner.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return SourceFile(name, root, num_bytes, inner)
    return SourceFile(inner, root, num_bytes)
