"""A node's failure in words: the first cause, with the node and the item it happened in."""

import errno
import traceback
from typing import Any

from pipeline.errors import HeadraceError, StageFailedError

STORAGE_ERRORS = {
    errno.ENOSPC: ("the disk is full", "free some room"),
    errno.EDQUOT: ("the disk quota is used up", "free some room or raise the quota"),
    errno.EROFS: ("the disk is mounted read-only", "mount it for writing"),
    errno.EACCES: ("permission was denied", "give this user the right to read and write there"),
    errno.EIO: ("the disk reported an input/output error", "look at the disk's health"),
}


def explain(error: BaseException, *, node: str, store_url: str) -> HeadraceError:
    """`error` as a user error in four parts; the original stays attached as its cause."""
    where = ", ".join([f"node {node}", *_items(error)])
    if isinstance(error, HeadraceError):
        error.where = (
            f"{error.where} ({where})" if error.where and node not in error.where else error.where or where
        )
        return error
    if _has_four_parts(error):
        found = _from_parts(error, where)
    elif isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        found = _storage(error, where, store_url)
    else:
        found = _unexpected(error, where)
    found.__cause__ = error
    return found


def _has_four_parts(error: BaseException) -> bool:
    return all(isinstance(getattr(error, part, None), str) for part in ("what", "where", "allowed", "do"))


def _from_parts(error: Any, where: str) -> HeadraceError:
    """The errors of `data` carry the four parts but know nothing of exit codes' owner."""
    found = HeadraceError(error.what, where=f"{error.where} ({where})", allowed=error.allowed, do=error.do)
    found.exit_code = getattr(error, "exit_code", 3)
    return found


def _storage(error: OSError, where: str, store_url: str) -> StageFailedError:
    what, do = STORAGE_ERRORS[error.errno or 0]
    return StageFailedError(
        f"{what}: nothing more can be written",
        where=f"{error.filename or store_url} ({where})",
        allowed="a store with room that this user may write to",
        do=f"{do}, then run the same command again: finished shards and checkpoints are kept",
    )


def _unexpected(error: BaseException, where: str) -> StageFailedError:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename and "/lib/python" not in frame.filename
    ]
    last = (ours or frames)[-1:] or []
    at = "".join(f", at {frame.filename}:{frame.lineno} in {frame.name}" for frame in last)
    return StageFailedError(
        f"{type(error).__name__}: {str(error).strip() or 'no message'}",
        where=f"{where}{at}",
        allowed="a stage that ends without an error",
        do="run it again with --debug for the traceback; finished shards and checkpoints are kept",
    )


def _items(error: BaseException) -> list[str]:
    """What was noted on the way up: `in NODE, item NAME` by the map tasks, `at document ID` by the stages."""
    notes = [str(note) for note in getattr(error, "__notes__", [])]
    items = [note.partition(", ")[2] for note in notes if note.startswith("in ") and ", item " in note]
    documents = [note.removeprefix("at ") for note in notes if note.startswith("at document ")]
    return [*items, *documents]
