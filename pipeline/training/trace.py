"""A trace of a few steps, kernel by kernel, as a browser opens it: ui.perfetto.dev, or chrome://tracing."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.dag.folder import Folder
from pipeline.training.ranks import Ranks
from pipeline.training.recorder import Recorder
from pipeline.training.timing import Timing

TRACE_FILE = "logs/trace.json.gz"


@dataclass
class Trace:
    """Runs torch's profiler on the first rank from the first of `steps` to the last, or to the run's end."""

    steps: list[int] | None
    "First and last, from 1, or the only one. None: nothing is traced."
    ranks: Ranks
    timing: Timing
    recorder: Recorder
    output: Folder
    _profiler: Any = field(default=None, init=False)

    def through(self, steps: range) -> Iterator[int]:
        """The same steps, numbered from 0; those to be traced are traced while they are made."""
        for step in steps:
            if self._is_asked_for(step) and self._profiler is None:
                self._begin()
            yield step
            if self._profiler is not None and not (step + 1 in steps and self._is_asked_for(step + 1)):
                self._finish(step + 1)

    def _is_asked_for(self, step: int) -> bool:
        return self.steps is not None and self.ranks.is_first and self.steps[0] <= step + 1 <= self.steps[-1]

    def _begin(self) -> None:
        from torch.profiler import profile

        self._profiler = profile()  # the CPU's work, and the GPU's where there is one
        self._profiler.start()
        self.timing.is_traced = True

    def _finish(self, last: int) -> None:
        profiler, self._profiler = self._profiler, None
        self.timing.is_traced = False
        profiler.stop()
        with tempfile.TemporaryDirectory(prefix="headrace-trace-") as folder:
            path = Path(folder) / Path(TRACE_FILE).name
            profiler.export_chrome_trace(str(path))
            self.output.upload(path, TRACE_FILE)
        self.recorder.say(
            f"traced up to step {last}: {TRACE_FILE} of the artifact opens at https://ui.perfetto.dev"
        )
