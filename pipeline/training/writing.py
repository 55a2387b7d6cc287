"""A checkpoint on its way to the store, in a thread of its own: tried again until it is there or given up.

The thread makes no call of torch.distributed: those belong to the main thread, which alone knows their order.
"""

import threading
from collections.abc import Callable, Sequence

FIRST_PAUSE_SECONDS = 0.5
"""Before a failed write is tried again; doubled with each failure."""
LONGEST_PAUSE_SECONDS = 30.0


class GivenUpError(Exception):
    """The checkpoint is not wanted any more."""


class Writing:
    """Does `jobs` in order, each until it succeeds; a job may ask `pause` whether to go on.

    What storage does (`OSError`) is tried again; any other exception is a fault of ours and is raised by `wait`.
    """

    def __init__(
        self, step: int, jobs: Sequence[Callable[["Writing"], None]], *, on_failure: Callable[[str], None]
    ) -> None:
        self.step = step
        self._jobs, self._on_failure = jobs, on_failure
        self._num_done, self._has_ended = 0, False
        self._failure = ""
        self._fault: BaseException | None = None
        self._changed, self._given_up = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name=f"checkpoint-{step}")
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return self._num_done == len(self._jobs)

    def wait(self, num_jobs: int, *, patience: float) -> str:
        """Until so many jobs are done, or one has failed for `patience` seconds: then why it does, else nothing."""

        def is_over() -> bool:
            return self._has_ended or self._num_done >= num_jobs

        with self._changed:
            self._changed.wait_for(lambda: is_over() or bool(self._failure))
            self._changed.wait_for(is_over, timeout=patience)
            if self._fault:
                raise self._fault
            return "" if is_over() else self._failure

    def give_up(self) -> None:
        """Try nothing again; an attempt that is under way ends first."""
        self._given_up.set()

    def end(self, *, within: float | None = None) -> None:
        """Until the thread has ended."""
        self._thread.join(within)

    def pause(self, seconds: float) -> None:
        """Wait within a job.

        Raises:
            GivenUpError: there is nothing to wait for any more.
        """
        if self._given_up.wait(seconds):
            raise GivenUpError

    def _work(self) -> None:
        fault: BaseException | None = None
        try:
            for job in self._jobs:
                self._until_done(job)
                self._note(num_done=self._num_done + 1)
        except GivenUpError:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            fault = error
        finally:
            with self._changed:
                self._fault, self._has_ended = fault, True
                self._changed.notify_all()

    def _until_done(self, job: Callable[["Writing"], None]) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return job(self)
            except OSError as error:
                why = in_a_line(error)
            self._note(num_done=self._num_done, failure=why)
            self._on_failure(why)
            self.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _note(self, *, num_done: int, failure: str = "") -> None:
        with self._changed:
            self._num_done, self._failure = num_done, failure
            self._changed.notify_all()


def in_a_line(error: OSError) -> str:
    """What the system or the bucket says."""
    return error.strerror or (str(error).strip().splitlines() or [type(error).__name__])[0]
