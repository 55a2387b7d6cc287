"""Folders that `datasets` wrote with `save_to_disk`: which of their files hold rows.

A saved Dataset is `state.json`, which names its Arrow streams, `dataset_info.json`, and the streams; a saved
DatasetDict is `dataset_dict.json` and a folder for each split. A cache that `map` left there is no part of it.
"""

import json
from collections import defaultdict
from collections.abc import Sequence

from data.errors import DataError
from data.files.source import SourceFile

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def without_bookkeeping(files: Sequence[SourceFile]) -> Sequence[SourceFile]:
    """The files without those of a saved dataset that hold no rows; all of them where there is none.

    Raises:
        DataError: a saved dataset lacks a file that it names, or its state cannot be read.
    """
    if not any(_parted(file)[1] in (STATE, SPLITS) for file in files):
        return files
    by_folder: dict[tuple[str, str], dict[str, SourceFile]] = defaultdict(dict)
    for file in files:
        folder, name = _parted(file)
        by_folder[file.root.path, folder][name] = file
    saved = {place: _rows_of(found) for place, found in by_folder.items() if {STATE, INFO} <= found.keys()}
    above = {(root, folder.rpartition("/")[0] if folder else None) for root, folder in saved}
    return [file for file in files if _has_rows(file, saved, above)]


def _has_rows(
    file: SourceFile,
    saved: dict[tuple[str, str], set[str]],
    above: set[tuple[str, str | None]],
) -> bool:
    folder, name = _parted(file)
    place = (file.root.path, folder)
    if place in saved:
        return name in saved[place]
    return not (name == SPLITS and place in above)


def _rows_of(found: dict[str, SourceFile]) -> set[str]:
    """The names of a saved dataset's files of rows."""
    state = found[STATE]
    try:
        with state.open() as stream:
            names = {str(each["filename"]) for each in json.load(stream)["_data_files"]}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise _wrong(state, f"the state of a saved dataset cannot be read: {error!r}") from error
    if missing := sorted(names - found.keys()):
        raise _wrong(state, f"a saved dataset lacks {missing[0]!r}")
    return names


def _wrong(state: SourceFile, what: str) -> DataError:
    allowed = "a folder as `datasets.save_to_disk` left it"
    return DataError(
        what, where=state.path, allowed=allowed, do="save it again, or name its .arrow files by a glob"
    )


def _parted(file: SourceFile) -> tuple[str, str]:
    folder, _, name = file.name.rpartition("/")
    return folder, name
