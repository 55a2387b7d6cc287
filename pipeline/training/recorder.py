"""The record of a run: one line per logged step, told to the channel about once a second, kept with the checkpoints.

The lines travel inside each checkpoint, so that a resumed run has every step exactly once.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.dag.stage import Channel
from pipeline.training.loss_scale import Scaling
from pipeline.training.pace import in_words
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
    loss_by_source: dict[str, float] = field(default_factory=dict)
    "Mean loss of the targets of each source that the batch is from, where there are several."
    spike: Spike | None = None

    def metrics(self) -> dict[str, float]:
        """By their names; a skipped step's gradient has no norm."""
        found = {"train/loss": self.loss, "train/learning_rate": self.learning_rate}
        if self.scaling:
            found["train/loss_scale"] = self.scaling.loss_scale
            found["train/skipped_steps"] = self.scaling.num_skipped
        if not (self.scaling and self.scaling.is_skipped):
            found["train/grad_norm"] = self.grad_norm
        return found | {f"train/loss/{source}": loss for source, loss in self.loss_by_source.items()}


class Gauge(Protocol):
    """Measures while training goes on."""

    def take(self, num_steps: int) -> dict[str, float]:
        """The metrics of the last `num_steps`, all since the last call; 0: of what came after the last of them."""
        ...


class Watcher(Protocol):
    """Looks at some steps, as they come."""

    def offer(self, record: StepRecord) -> dict[str, float]:
        """Called after each training step; the metrics there are of it, mostly none."""
        ...


@dataclass
class Recorder:
    """Writes nothing on ranks other than the first."""

    channel: Channel
    ranks: Ranks
    throughput: Throughput
    every_steps: int
    gauges: Sequence[Gauge] = ()
    watchers: Sequence[Watcher] = ()
    lines: list[dict[str, Any]] = field(default_factory=list)
    "Every record so far: step, tokens and metrics."
    _unsent: list[dict[str, Any]] = field(default_factory=list, init=False)
    _sent_at: float = field(default=0.0, init=False)
    _num_steps_since: int = field(default=0, init=False)
    "Steps since the newest record of them."
    _words: str = field(default="", init=False)
    "How it goes, as of the newest training step."
    _encoded: bytearray = field(default_factory=bytearray, init=False)
    _num_encoded: int = field(default=0, init=False)
    "Of the lines: each is encoded once, though every checkpoint has all of them."

    def offer(self, record: StepRecord) -> None:
        """Called after each training step."""
        self.throughput.add(record.seconds)
        self._num_steps_since += 1
        for watcher in self.watchers:
            self.add(record.step, watcher.offer(record))
        if record.scaling and record.scaling.is_skipped:
            self.say(
                f"step {record.step}: gradients too large for fp16, the update is skipped; the loss scale is now "
                f"{record.scaling.loss_scale:g}"
            )
        if record.spike:
            self._tell_spike(record, record.spike)
        if record.step % self.every_steps and record.step != self._num_steps:
            return
        metrics = record.metrics() | self.throughput.take() | self._gauged()
        self.add(record.step, metrics)
        if time.monotonic() - self._sent_at >= FLUSH_SECONDS or record.step == self._num_steps:
            self._words = self._describe(record, metrics["train/tokens_per_second"])
            self.flush()

    def close(self) -> None:
        """After the last step: record what has come since its record."""
        self.add(self._num_steps, self._gauged())
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
        """Record metrics that belong to `step`, if there are any."""
        if self.ranks.is_first and metrics:
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
        tell(self.channel, self.ranks, text)

    def newest(self) -> dict[str, float]:
        """The newest value of each metric."""
        return {name: value for line in self.lines for name, value in line["metrics"].items()}

    def as_bytes(self) -> bytes:
        """JSON lines."""
        new = self.lines[self._num_encoded :]
        self._encoded += "".join(json.dumps(line, sort_keys=True) + "\n" for line in new).encode()
        self._num_encoded += len(new)
        return bytes(self._encoded)

    def restore(self, content: bytes) -> None:
        """Go on from the lines of a checkpoint; they were sent when they were new."""
        if self.ranks.is_first:
            self.lines = [json.loads(line) for line in content.splitlines()]
            self._encoded, self._num_encoded = bytearray(content), len(self.lines)

    def _gauged(self) -> dict[str, float]:
        num_steps, self._num_steps_since = self._num_steps_since, 0
        return {name: value for gauge in self.gauges for name, value in gauge.take(num_steps).items()}

    @property
    def _num_steps(self) -> int:
        return self.throughput.num_steps

    @property
    def _tokens_per_step(self) -> int:
        return self.throughput.config.sequences_per_step * self.throughput.config.seq_len

    def _describe(self, record: StepRecord, rate: float) -> str:
        left = self.throughput.seconds_left(record.step)
        remaining = f", {in_words(left)} left" if left is not None and record.step < self._num_steps else ""
        return f"loss {record.loss:.3f}, {rate:,.0f} tokens/s{remaining}"


def tell(channel: Channel, ranks: Ranks, text: str) -> None:
    """A line for the user, once for all ranks."""
    if ranks.is_first:
        channel.send({"kind": "note", "text": text})
