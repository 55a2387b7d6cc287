"""The record of a run: one line per logged step, told to the channel about once a second, kept with the checkpoints.

The lines travel inside each checkpoint, so that a resumed run has every step exactly once.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from pipeline.dag.stage import Channel
from pipeline.training.loss_scale import Scaling
from pipeline.training.ranks import Ranks
from pipeline.training.spikes import Spike, SpikePolicy
from pipeline.training.throughput import Throughput

METRICS_FILE = "metrics.jsonl"
FLUSH_SECONDS = 1.0


@dataclass(frozen=True)
class StepRecord:
    """What a training step came to."""

    step: int
    "Updates made, this one included."
    loss: float
    "Mean loss of the global batch's targets, in nats, before the update."
    learning_rate: float
    grad_norm: float
    "Before clipping."
    seconds: float
    scaling: Scaling | None = None
    "Of fp16."
    spike: Spike | None = None

    def metrics(self) -> dict[str, float]:
        """By their names; a skipped step's gradient has no norm."""
        found = {"train/loss": self.loss, "train/learning_rate": self.learning_rate}
        if self.scaling:
            found["train/loss_scale"] = self.scaling.loss_scale
            found["train/skipped_steps"] = self.scaling.num_skipped
        return (
            found if self.scaling and self.scaling.is_skipped else found | {"train/grad_norm": self.grad_norm}
        )


@dataclass
class Recorder:
    """Writes nothing on ranks other than the first."""

    channel: Channel
    ranks: Ranks
    throughput: Throughput
    every_steps: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    "Every record so far: step, tokens and metrics."
    _unsent: list[dict[str, Any]] = field(default_factory=list, init=False)
    _sent_at: float = field(default=0.0, init=False)
    _words: str = field(default="", init=False)
    "How it goes, as of the newest training step."

    def offer(self, record: StepRecord) -> None:
        """Called after each training step."""
        self.throughput.add(record.seconds)
        if record.scaling and record.scaling.is_skipped:
            self.say(
                f"step {record.step}: gradients too large for fp16, the update is skipped; the loss scale is now "
                f"{record.scaling.loss_scale:g}"
            )
        if record.spike:
            self._tell_spike(record, record.spike)
        if record.step % self.every_steps and record.step != self._num_steps:
            return
        metrics = record.metrics() | self.throughput.take()
        self.add(record.step, metrics)
        if time.monotonic() - self._sent_at >= FLUSH_SECONDS or record.step == self._num_steps:
            self._words = self._describe(record, metrics["train/tokens_per_second"])
            self.flush()

    def _tell_spike(self, record: StepRecord, spike: Spike) -> None:
        what = f"step {record.step}: the loss of {spike.loss:.4g} is a spike, above {spike.limit:.4g}"
        outcome = (
            f"its update is made at a rate of {record.learning_rate:.3g}"
            if spike.policy is SpikePolicy.cut_rate
            else "its update is left out"
        )
        self.say(f"{what}: {outcome}")
        self.add(record.step, {"train/spikes": spike.number})

    def add(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics that belong to `step`."""
        if self.ranks.is_first:
            line = {"step": step, "tokens": step * self._tokens_per_step, "metrics": metrics}
            self.lines.append(line)
            self._unsent.append(line)

    def flush(self) -> None:
        """Tell the channel what it has not been told."""
        if not self.ranks.is_first or not self._unsent:
            return
        step = self._unsent[-1]["step"]
        for line in self._unsent:
            self.channel.send({"kind": "metrics", **line})
        self.channel.send(
            {"kind": "progress", "done": step, "total": self._num_steps, "unit": "steps", "note": self._words}
        )
        self._unsent, self._sent_at = [], time.monotonic()

    def say(self, text: str) -> None:
        """A sentence for whoever watches."""
        if self.ranks.is_first:
            self.channel.send({"kind": "note", "text": text})

    def newest(self) -> dict[str, float]:
        """The newest value of each metric."""
        return {name: value for line in self.lines for name, value in line["metrics"].items()}

    def as_bytes(self) -> bytes:
        """JSON lines."""
        return "".join(json.dumps(line, sort_keys=True) + "\n" for line in self.lines).encode()

    def restore(self, content: bytes) -> None:
        """Go on from the lines of a checkpoint; they were sent when they were new."""
        if self.ranks.is_first:
            self.lines = [json.loads(line) for line in content.splitlines()]

    @property
    def _num_steps(self) -> int:
        return self.throughput.num_steps

    @property
    def _tokens_per_step(self) -> int:
        return self.throughput.config.sequences_per_step * self.throughput.config.seq_len

    def _describe(self, record: StepRecord, rate: float) -> str:
        left = self.throughput.seconds_left(record.step)
        remaining = f", {_duration(left)} left" if left is not None and record.step < self._num_steps else ""
        return f"loss {record.loss:.3f}, {rate:,.0f} tokens/s{remaining}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
