"""Word from outside that the ranks should start again elsewhere: at the end of a step, together, after a checkpoint."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch

from pipeline.training.checkpointer import Checkpointer
from pipeline.training.failure import LeftError
from pipeline.training.recorder import Recorder


@dataclass(frozen=True)
class Notice:
    """What a rank was told."""

    why: str
    can_leave: bool
    "Whether there is a place to go on; without one the ranks stay as long as they can."


@dataclass
class Departure:
    """Heeds what any of the ranks was told, once. The calls are made by all ranks together."""

    checkpointer: Checkpointer
    recorder: Recorder
    last_step: int
    notice: Callable[[], Notice | None] | None = None
    "What this rank was told last; None, on all ranks alike: nobody ever tells them anything."
    _heeded: set[str] = field(default_factory=set, init=False)

    def through(self, steps: Iterable[int]) -> Iterator[int]:
        """The same steps, with a look between two of them.

        Raises:
            LeftError: on all ranks, when the state after the last step is in the store.
        """
        for step in steps:
            yield step
            self.offer(step + 1)

    def offer(self, step: int) -> None:
        """Called after `step` updates.

        Raises:
            LeftError: on all ranks, when the state after `step` updates is in the store.
        """
        if self.notice is None or step == self.last_step:
            return
        notice = self._agreed(self.notice())
        if notice is None:
            return
        self._heeded.add(notice.why)
        self.checkpointer.save_now(step)
        end = "starts again" if notice.can_leave else "goes on as long as it can: there is no room elsewhere"
        self.recorder.say(f"{notice.why}: after a checkpoint at step {step} training {end}")
        self.recorder.flush()
        if notice.can_leave:
            raise LeftError(notice.why)

    def _agreed(self, mine: Notice | None) -> Notice | None:
        """The first rank's notice that has one; nearly always none, which takes one sum over the ranks to know."""
        mine = None if mine is None or mine.why in self._heeded else mine
        engine, ranks = self.checkpointer.engine, self.checkpointer.ranks
        told = torch.tensor(float(mine is not None), device=engine.device)
        if not engine.sum_over_ranks(told).item():
            return None
        notices: list[Notice | None] = ranks.gather(mine)
        return next(each for each in notices if each is not None)
