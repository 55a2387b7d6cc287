"""Finding the files of a corpus: paths, folders and globs become one sorted list of named files.

A name is the path relative to the fixed root of the pattern that found it (the folder before the first wildcard),
so that ids do not depend on where a corpus lies. A folder is walked whole; hidden files and folders (`.git`) are
left to globs that name them, as shells do. Symbolic links are followed, each real folder and file once.
"""

import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from data.errors import DataError

STDLIB = "python://stdlib"
STDLIB_SKIP = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})
_WILDCARD = re.compile(r"[*?\[]")
_GLOB_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


@dataclass(frozen=True, order=True)
class SourceFile:
    """A file of the corpus."""

    name: str
    "Relative path with forward slashes; unique in a corpus, valid Unicode."
    path: Path
    "Where it lies on this machine."
    num_bytes: int
    "Its size as it lies there (compressed, if it is)."


def list_files(patterns: Sequence[str], *, exclude: Sequence[str] = ()) -> list[SourceFile]:
    """Every file that a pattern finds and no `exclude` glob matches, once, sorted by name.

    Args:
        patterns: files, folders (walked), globs with `*`, `?`, `[...]` within a name and `**` across folders, or
            `python://stdlib`: the sources of the running Python's standard library, without its tests.
        exclude: globs on names; one without a slash is matched against the last component in any folder.

    Raises:
        DataError: a pattern finds nothing, two files would have one name, or all is excluded.
    """
    excluded = [glob_regex(glob if "/" in glob else f"**/{glob}") for glob in exclude]
    by_real_path: dict[str, SourceFile] = {}
    for pattern in patterns:
        for file in _find(pattern):
            if not _matches_any(excluded, file.name):
                by_real_path.setdefault(os.path.realpath(file.path), file)
    files = sorted(by_real_path.values())
    if not files:
        raise DataError(
            "no file is left to read",
            where=", ".join(patterns) or "(no pattern)",
            allowed="patterns that find at least one file that `exclude` does not match",
            do="add a pattern, or look at `exclude`",
        )
    _check_unique(files)
    return files


def glob_regex(glob: str) -> re.Pattern[str]:
    """A regular expression for a whole name: `**/` is any number of folders, a final `**` anything below."""
    special = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = []
    for part in _GLOB_PARTS.findall(glob):
        if part in special:
            parts.append(special[part])
        elif len(part) > 1:  # [...] or [!...]
            inner = part[1:-1].replace("\\", r"\\").replace("[", r"\[")
            parts.append(f"(?!/)[{'^' + inner[1:] if inner.startswith('!') else inner}]")
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts) + r"\Z", re.DOTALL)


def walk(
    root: Path, *, hidden: bool = False, max_depth: int | None = None, skip: AbstractSet[str] = frozenset()
) -> Iterator[Path]:
    """The files below a folder in a fixed order; follows symbolic links, but into each real folder once.

    Args:
        root: the folder.
        hidden: whether names that begin with a dot are walked too.
        max_depth: components of a name at most; None: any.
        skip: names of folders that are not entered.
    """
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real, depth = os.path.realpath(folder), len(Path(folder).relative_to(root).parts)
        if real in seen or (max_depth is not None and depth >= max_depth - 1):
            subfolders.clear()
        if real in seen:
            continue
        seen.add(real)
        entered = (name for name in subfolders if name not in skip and (hidden or not name.startswith(".")))
        subfolders[:] = sorted(entered)
        paths = (Path(folder, name) for name in sorted(files) if hidden or not name.startswith("."))
        yield from (path for path in paths if path.is_file())


def _find(pattern: str) -> list[SourceFile]:
    found = _stdlib() if pattern == STDLIB else _find_on_disk(pattern)
    if not found:
        raise DataError(
            f"{pattern!r} finds no file",
            where=pattern,
            allowed=f"a file, a folder with files in it, a glob, or {STDLIB}",
            do="check the path; a relative one starts from the folder that the command runs in",
        )
    return found


def _find_on_disk(pattern: str) -> list[SourceFile]:
    root, rest = _split(pattern)
    if not rest:
        if root.is_file():
            return [_source_file(root, root.parent)]
        return [_source_file(path, root) for path in walk(root)]
    matched, hidden = glob_regex(rest), any(part.startswith(".") for part in rest.split("/"))
    max_depth = None if "**" in rest else len(rest.split("/"))
    files = (_source_file(path, root) for path in walk(root, hidden=hidden, max_depth=max_depth))
    return [file for file in files if matched.match(file.name)]


def _stdlib() -> list[SourceFile]:
    root = Path(sysconfig.get_path("stdlib"))
    return [_source_file(path, root) for path in walk(root, skip=STDLIB_SKIP) if path.suffix == ".py"]


def _split(pattern: str) -> tuple[Path, str]:
    """The folder or file before the first component with a wildcard, and the components from there on."""
    parts = PurePosixPath(Path(pattern).expanduser()).parts
    if Path(*parts).exists():  # also a real file with a bracket in its name
        return Path(*parts), ""
    wild = next((k for k, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
    return Path(*parts[:wild]), "/".join(parts[wild:])


def _source_file(path: Path, root: Path) -> SourceFile:
    name = path.relative_to(root).as_posix()
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return SourceFile(name, path, path.stat().st_size)


def _matches_any(regexes: Sequence[re.Pattern[str]], name: str) -> bool:
    return any(regex.match(name) for regex in regexes)


def _check_unique(files: Sequence[SourceFile]) -> None:
    for one, other in pairwise(files):
        if one.name == other.name:
            raise DataError(
                f"two files would both be called {one.name!r}",
                where=f"{one.path} and {other.path}",
                allowed="names that are unique below the fixed roots of the patterns",
                do="use one pattern from their common folder, such as corpus/[ab]/*.txt, or two stages",
            )
