"""What the store knows of trials: the artifacts of complete ones, and records of those that asha stopped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.dag.fingerprint import fingerprint
from pipeline.dag.folder import Folder
from pipeline.dag.plan import Planner
from pipeline.dag.store import Artifact, Store
from pipeline.tune.config import TuneConfig
from pipeline.tune.trials import Sharing, Trial, TrialStatus, trial_key

LOG = "logs/metrics.jsonl"
"Where a training leaves the metrics of its steps in its artifact."


@dataclass(frozen=True)
class TrialMemory:
    """The trials of earlier searches on the same store."""

    store: Store
    config: TuneConfig
    node: str
    "The node that decides."
    sharing: Sharing
    recipe: str
    "The name under which the store notes what trials built last."

    def recall(self, trials: Sequence[Trial], shared: Mapping[str, Artifact]) -> None:
        """Give every trial its key, and settle those that an earlier search has ended."""
        digests = {node: artifact.manifest.digest for node, artifact in shared.items()}
        for trial in trials:
            trial.key = trial_key(trial, self.sharing, digests)
            if trial.is_open:
                self._recall_artifact(trial)
            if trial.is_open and self.store.root.exists(self._place(trial)):
                trial.status = TrialStatus.stopped
                known = self.store.root.read_json(self._place(trial))
                trial.history = [(step, value) for step, value in known["history"]]

    def note_stopped(self, trial: Trial) -> None:
        """Remember that asha ended it, so that it is not begun again under the same rule."""
        content = {"overrides": trial.overrides, "history": trial.history}
        self.store.root.write_json(self._place(trial), content)

    def _recall_artifact(self, trial: Trial) -> None:
        artifact = Planner(trial.graph, self.store, recipe=self.recipe).plan([self.node])[self.node].artifact
        if artifact is None:
            return
        trial.status, trial.artifact_key = TrialStatus.reused, artifact.manifest.key
        trial.history = history_of(artifact.folder, self.config.metric)
        if self.config.metric in artifact.manifest.metrics:
            trial.history.append((trial.step, artifact.manifest.metrics[self.config.metric]))

    def _place(self, trial: Trial) -> str:
        config = self.config
        rule = [config.scheduler.name, config.mode.name, config.metric, config.grace_steps]
        key = fingerprint({"node": self.node, "rule": [*rule, config.reduction_factor]})
        return f"tune/{trial.key}/{key}.json"


def history_of(folder: Folder, metric: str) -> list[tuple[int, float]]:
    """Step and metric from the log that a training left in its artifact; empty for other artifacts."""
    if not folder.exists(LOG):
        return []
    lines = [json.loads(line) for line in folder.read_bytes(LOG).splitlines()]
    return [(line["step"], line["metrics"][metric]) for line in lines if metric in line["metrics"]]
