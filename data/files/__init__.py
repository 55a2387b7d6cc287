"""Finding the files of a corpus: paths, folders, globs and URLs become one sorted list of named files.

A name is the path relative to the fixed root of the pattern that found it (the folder before the first wildcard),
so that ids do not depend on where a corpus lies. A folder is walked whole; hidden files and folders (`.git`) are
left to globs that name them, as shells do. Symbolic links are followed, each real folder and file once. Of a folder
that `datasets` saved, the files of rows are taken and its bookkeeping is not.
"""

import os
import re
import sysconfig
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from data.errors import DataError
from data.files.globs import glob_regex
from data.files.local import find_local, is_link, walk
from data.files.remote import find_remote
from data.files.saved import without_bookkeeping
from data.files.source import Root, SourceFile, local_file

__all__ = ["STDLIB", "Root", "SourceFile", "glob_regex", "list_files", "local_file"]

STDLIB = "python://stdlib"
STDLIB_SKIP = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})


def list_files(patterns: Sequence[str], *, exclude: Sequence[str] = ()) -> list[SourceFile]:
    """Every file that a pattern finds and no `exclude` glob matches, once, sorted by name.

    Args:
        patterns: files, folders (walked), globs with `*`, `?`, `[...]` within a name and `**` across folders, the same
            as URLs (but for `?`), or `python://stdlib`: the sources of the running Python's standard library, without
            its tests.
        exclude: globs on names; one without a slash is matched against the last component in any folder.

    Raises:
        DataError: a pattern finds nothing, two files would have one name, or all is excluded.
    """
    excluded = [glob_regex(glob if "/" in glob else f"**/{glob}") for glob in exclude]
    files: list[SourceFile] = []
    for pattern in patterns:
        found = _find(pattern)
        files += [file for file in found if not _matches_any(excluded, file.name)] if excluded else found
    if not files:
        raise DataError(
            "no file is left to read",
            where=", ".join(patterns) or "(no pattern)",
            allowed="patterns that find at least one file that `exclude` does not match",
            do="add a pattern, or look at `exclude`",
        )
    files = _each_once(files, num_patterns=len(patterns))
    files.sort(key=attrgetter("name"))
    _check_unique(files)
    return files


def _find(pattern: str) -> Sequence[SourceFile]:
    found = without_bookkeeping(_find_by_scheme(pattern))
    if not found:
        raise DataError(
            f"{pattern!r} finds no file",
            where=pattern,
            allowed=f"a file, a folder with files in it, a glob, a URL of one, or {STDLIB}",
            do="check the path; a relative one starts from the folder that the command runs in",
        )
    return found


def _find_by_scheme(pattern: str) -> list[SourceFile]:
    if pattern == STDLIB:
        root = Root(sysconfig.get_path("stdlib"))
        return [file for file in walk(root, skip=STDLIB_SKIP) if PurePosixPath(file.name).suffix == ".py"]
    if pattern.startswith("file://"):
        return list(find_local(unquote(urlsplit(pattern).path)))
    if "://" in pattern:
        return list(find_remote(pattern))
    return list(find_local(pattern))


def _each_once(files: list[SourceFile], *, num_patterns: int) -> list[SourceFile]:
    """The first of those that are the same file; one pattern finds a file twice through a link alone."""
    if num_patterns == 1 and not any(not file.is_remote and is_link(file) for file in files):
        return files
    by_real_path: dict[str, SourceFile] = {}
    for file in files:
        real = file.path if file.is_remote else os.path.realpath(file.path)
        by_real_path.setdefault(real, file)
    return list(by_real_path.values())


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
