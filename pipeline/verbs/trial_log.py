"""What trials tell while they run, passed on to the report, the tracker, and the trials themselves."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.dag import events
from pipeline.dag.events import Event
from pipeline.errors import HeadraceError, StageFailedError
from pipeline.report import Report
from pipeline.tracking.events import record
from pipeline.tracking.tracker import Tracker
from pipeline.tune.memory import TrialMemory
from pipeline.tune.trials import Trial, TrialStatus

TRIAL = "trial"
"What trials are called where nodes have a stage."
INTERRUPTION = StageFailedError("interrupted", do="the same command continues where this one stopped")


@dataclass
class TrialLog:
    """Listens to the shared nodes and to the trials of one search."""

    trials: dict[int, Trial]
    "By number."
    memory: TrialMemory
    report: Report
    tracker: Tracker
    run_id: str
    counts: dict[str, int] = field(default_factory=lambda: {"built": 0, "reused": 0, "failed": 0})
    "Of nodes and of trials that were found complete."
    _running: dict[int, set[str]] = field(default_factory=dict)
    "Of each trial, the nodes that run."
    _began_at: dict[int, float] = field(default_factory=dict)

    def listen(self, event: Event) -> None:
        """To the shared nodes."""
        record(self.tracker, event)
        self.report.show(event)
        kinds = {events.NodeFinished: "built", events.NodeReused: "reused", events.NodeFailed: "failed"}
        if kind := kinds.get(type(event)):
            self.counts[kind] += 1

    def hear(self, number: int, message: dict[str, Any]) -> None:
        """An `event` of a node of a trial, or the trial's `end`."""
        trial = self.trials[number]
        if trial.is_open:
            self._begin(trial)
        if trial.status is not TrialStatus.running:
            return
        if "end" in message:
            self._end(trial, message["end"])
        else:
            self._hear_event(trial, message["event"])

    def tell_recalled(self) -> None:
        """Say which trials an earlier search has ended."""
        for trial in self.trials.values():
            if trial.is_complete:
                self.counts["reused"] += 1
                self.report.show(events.NodeReused(trial.name, TRIAL, trial.key, self.place(trial)))
            elif trial.status is TrialStatus.stopped:
                error = StageFailedError("stopped early by asha in an earlier search")
                self.report.show(events.NodeNote(trial.name, error.what))
                self.report.show(events.NodeFailed(trial.name, error, interrupted=True))

    def end_running(self, status: TrialStatus, error: HeadraceError) -> None:
        """Settle the trials from which no end will come."""
        for trial in self.trials.values():
            if trial.status is TrialStatus.running:
                self._end_badly(trial, status, error)

    def place(self, trial: Trial) -> str:
        stage = trial.graph.stages[self.memory.node].name
        return self.memory.store.artifact_folder(stage, trial.artifact_key).url

    def _begin(self, trial: Trial) -> None:
        trial.status = TrialStatus.running
        self._began_at[trial.number], self._running[trial.number] = time.time(), set()
        tags = {"headrace.search": self.run_id, "headrace.trial": str(trial.number)}
        started = events.NodeStarted(trial.name, TRIAL, trial.key, dict(trial.overrides), tags)
        record(self.tracker, started)
        self.report.show(started)

    def _hear_event(self, trial: Trial, event: Event) -> None:
        record(self.tracker, event, below=trial.name)
        running = self._running[trial.number]
        match event:
            case events.NodeStarted():
                running.add(event.node)
            case events.NodeFinished():
                running.discard(event.node)
                self.counts["built"] += 1
            case events.NodeFailed():
                running.discard(event.node)
                assert isinstance(event.error, HeadraceError)
                trial.error = trial.error or event.error
            case events.NodeProgress():
                note = " · ".join(filter(None, [event.node, event.note]))
                self.report.show(replace(event, node=trial.name, note=note))
            case events.NodeNote():
                self.report.show(events.NodeNote(trial.name, f"{event.node}: {event.text}"))
            case events.NodeMetrics() if event.node == self.memory.node:
                self._hear_metrics(trial, event)
            case _:
                pass

    def _hear_metrics(self, trial: Trial, event: events.NodeMetrics) -> None:
        metric = self.memory.config.metric
        value = event.metrics.get(metric)
        if value is not None and event.step > trial.step:
            trial.history.append((event.step, value))
            record(self.tracker, events.NodeMetrics(trial.name, {metric: value}, event.step, event.tokens))

    def _end(self, trial: Trial, end: Any) -> None:
        if end.status is TrialStatus.interrupted:
            self._end_badly(trial, TrialStatus.interrupted, INTERRUPTION)
        elif end.status is TrialStatus.stopped:
            self.memory.note_stopped(trial)
            at = f"{self.memory.config.metric} {trial.value:.4g} at step {trial.step}"
            reason = StageFailedError(f"stopped early by asha: others were better than {at}")
            self.report.show(events.NodeNote(trial.name, reason.what))
            self._end_badly(trial, TrialStatus.stopped, reason)
        elif end.status is TrialStatus.failed:
            self._end_badly(trial, TrialStatus.failed, trial.error or INTERRUPTION)
        else:
            self._end_well(trial, end)

    def _end_well(self, trial: Trial, end: Any) -> None:
        trial.status, trial.artifact_key = end.status, end.artifact_key
        if end.value is not None:
            trial.history.append((max(end.step, trial.step), end.value))
        finished = events.NodeFinished(
            node=trial.name,
            stage=TRIAL,
            key=trial.key,
            url=self.place(trial),
            digest="",
            seconds=time.time() - self._began_at[trial.number],
            counters={},
            metrics={} if trial.value is None else {self.memory.config.metric: trial.value},
        )
        record(self.tracker, finished)
        self.report.show(finished)

    def _end_badly(self, trial: Trial, status: TrialStatus, error: HeadraceError) -> None:
        trial.status, trial.error = status, error
        for node in self._running.pop(trial.number):
            record(self.tracker, events.NodeFailed(node, error, interrupted=True), below=trial.name)
        failed = events.NodeFailed(trial.name, error, interrupted=status is not TrialStatus.failed)
        record(self.tracker, failed)
        self.report.show(failed)
        if status is TrialStatus.failed:
            self.counts["failed"] += 1


def lost_process(log_path: Path) -> StageFailedError:
    """The error of a trial from which no end has come."""
    return StageFailedError(
        "the trial's process was lost, again and again",
        where=f"see {log_path}",
        allowed="a trial that tells its end",
        do="look for a full memory or a dead node; the same command continues where this one stopped",
    )
