"""Which rank failed first, and of what: the cause that a user is told, not the last symptom."""

import time
import traceback
from dataclasses import dataclass

from pipeline.errors import HeadraceError, InputDataError, StageFailedError


class LeftError(Exception):
    """Raised by all ranks together, after a checkpoint: they are to go on elsewhere, or with more or fewer."""


PASSING = (ConnectionError, TimeoutError)
"""Failures of one rank that another rank's end, or the network, may have caused."""
SYMPTOMS = ("gloo", "nccl", "connection", "diststore", "distnetwork", "distbackend")


@dataclass(frozen=True)
class RankFailure:
    """An exception of one rank, as words: it must cross processes whatever its type was."""

    rank: int
    kind: str
    message: str
    frame: str
    "File, line and function where it was raised."
    failed_at: float
    "Seconds since the epoch, by the clock of the rank's machine."
    may_pass: bool
    "Whether starting again from the last checkpoint may help."

    @property
    def has_left(self) -> bool:
        """Whether it is no failure, but the ranks' way to start again elsewhere."""
        return self.kind == LeftError.__name__


class RankError(Exception):
    """Carries a `RankFailure`, and the four parts where the failure had them, out of a worker."""

    def __init__(self, failure: RankFailure, told: HeadraceError | None = None) -> None:
        super().__init__(failure, told)
        self.failure, self.told = failure, told

    def __str__(self) -> str:
        failure = self.failure
        return f"rank {failure.rank}: {failure.kind}: {failure.message} ({failure.frame})"


def as_rank_error(error: BaseException, *, rank: int) -> RankError:
    """The exception of a rank as what crosses to the driver."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename]
    last = (ours or frames)[-1:]
    at = "".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in last)
    message = str(error).strip() or "no message"
    failure = RankFailure(rank, type(error).__name__, message, at, time.time(), _may_pass(error))
    return RankError(failure, _told(error))


def first_cause(failures: dict[int, Exception], *, hang: HeadraceError | None = None) -> HeadraceError:
    """The error to show for the exceptions of the ranks of a failed group, one of which may have reported a hang."""
    known = sorted(
        (error for error in failures.values() if isinstance(error, RankError)),
        key=lambda error: (error.failure.may_pass, error.failure.failed_at),
    )
    lost = sorted(rank for rank, error in failures.items() if not isinstance(error, RankError))
    if hang and (not known or known[0].failure.may_pass):
        return hang
    if lost and (not known or known[0].failure.may_pass):
        return _lost(lost[0], failures[lost[0]])
    first = known[0]
    if first.told is not None:
        first.told.where = f"{first.told.where} (rank {first.failure.rank})".strip()
        return first.told
    return _unexpected(first.failure)


def _told(error: BaseException) -> HeadraceError | None:
    """The error itself where it is already in four parts; the data package's has them under another type."""
    if isinstance(error, HeadraceError):
        return error
    if not all(isinstance(getattr(error, part, None), str) for part in ("what", "where", "allowed", "do")):
        return None
    wrong_data = getattr(error, "exit_code", 1) == InputDataError.exit_code
    kind = InputDataError if wrong_data else StageFailedError
    return kind(error.what, where=error.where, allowed=error.allowed, do=error.do)  # type: ignore[attr-defined]


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, PASSING):
        return True
    words = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, RuntimeError) and any(symptom in words for symptom in SYMPTOMS)


def _lost(rank: int, error: Exception) -> StageFailedError:
    words = str(error).strip().splitlines() or [type(error).__name__]
    stands_still = type(error).__name__ == "WorkerHealthCheckTimeoutError"
    why = f"hangs: {words[0]}" if stands_still else f"was lost again and again: {words[-1].strip()}"
    return StageFailedError(
        f"rank {rank} {why}",
        where=f"rank {rank}",
        allowed="ranks that stay alive, within resources.max_failures",
        do="look for a full memory or a dead node; the same command goes on from the last checkpoint",
    )


def _unexpected(failure: RankFailure) -> StageFailedError:
    out_of_memory = "OutOfMemory" in failure.kind or "out of memory" in failure.message
    smaller = (
        "set a smaller resources.micro_batch_size, a higher zero_stage, or activation_checkpointing=full"
    )
    return StageFailedError(
        f"{failure.kind}: {failure.message}",
        where=f"rank {failure.rank}, {failure.frame}",
        allowed="a training step that fits in the device's memory" if out_of_memory else "no error",
        do=smaller if out_of_memory else "run it again with --debug; it goes on from the last checkpoint",
    )
