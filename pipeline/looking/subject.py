"""REF to what is looked at: an artifact, a part of one, or a run; by Headrace's names or MLflow's."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.dag.plan import Planner
from pipeline.dag.references import find_part, unknown_reference
from pipeline.dag.store import Artifact, Store
from pipeline.errors import ConfigError
from pipeline.tracking.config import TrackingConfig, sqlite_path, tracking_uri

RUN_ID = re.compile(r"\d{8}-\d{6}-\d+")
MLFLOW_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ArtifactPart:
    """An artifact, or a top-level folder of it."""

    artifact: Artifact
    part: str = ""
    "Empty for the whole."


@dataclass(frozen=True)
class Run:
    """One `headrace run`, as the store remembers it."""

    run_id: str
    record: dict[str, Any]
    "recipe, nodes (node to stage and key), yaml, and how it ended."


@dataclass(frozen=True)
class Finder:
    """Finds what a REF means.

    Args:
        store: where artifacts and runs are.
        planner: of the recipe at hand.
        tracking: where MLflow keeps its runs; it is asked only for what looks like the id of one.
    """

    store: Store
    planner: Planner
    tracking: TrackingConfig

    def find(self, reference: str) -> ArtifactPart | Run:
        """Raises ConfigError where it means nothing, several things, or something that is not built."""
        if found := find_part(reference, store=self.store, planner=self.planner):
            return ArtifactPart(*found)
        if RUN_ID.fullmatch(reference):
            return self._run(reference)
        if MLFLOW_ID.fullmatch(reference) and (found_run := self._mlflow_tags(reference)):
            return self._of_tags(reference, found_run)
        raise unknown_reference(reference, self.planner)

    def find_artifact(self, reference: str) -> ArtifactPart:
        """As `find`, for where a run will not do."""
        found = self.find(reference)
        if isinstance(found, ArtifactPart):
            return found
        nodes = found.record["nodes"]
        raise ConfigError(
            f"{reference} is a run of {len(nodes)} nodes, and one artifact is wanted",
            where="the command line",
            allowed=", ".join(f"{node} ({each['key'][:12]})" for node, each in nodes.items()),
            do="name one of these by its fingerprint",
        )

    def _run(self, run_id: str) -> Run:
        folder = self.store.root.child("runs")
        if folder.exists(f"{run_id}.json"):
            return Run(run_id, folder.read_json(f"{run_id}.json"))
        known = [entry.name.removesuffix(".json") for entry in folder.files(".json")]
        raise ConfigError(
            f'the store knows no run "{run_id}"',
            where=f"store={self.store.url}",
            allowed=", ".join(known[:-6:-1]) or "a run; none has been recorded here",
            do="name one of these (the newest comes first); a run that was killed leaves only its artifacts",
        )

    def _mlflow_tags(self, run_id: str) -> dict[str, str] | None:
        path = Path(self.store.root.path) if self.store.root.is_local else None
        if path is None and not self.tracking.uri:
            return None
        uri = tracking_uri(self.tracking, store_path=path)
        database = sqlite_path(uri)
        if database is not None and not database.exists():
            return None
        from pipeline.tracking.server import be_impatient, open_client

        be_impatient()
        client = open_client(uri)
        from mlflow.exceptions import MlflowException

        try:
            return dict(client.get_run(run_id).data.tags)
        except MlflowException:
            return None

    def _of_tags(self, reference: str, tags: dict[str, str]) -> ArtifactPart | Run:
        if run_id := tags.get("headrace.run_id"):
            return self._run(run_id)
        stage, key = tags.get("headrace.stage", ""), tags.get("headrace.fingerprint", "")
        artifact = self.store.find(stage, key) if stage and key else None
        if artifact:
            return ArtifactPart(artifact)
        raise ConfigError(
            f"the MLflow run {reference} has no artifact in this store",
            where=f"store={self.store.url}",
            allowed=f"a run that finished here; this one is {stage or 'not of Headrace'} {key[:12]}".strip(),
            do="name the store it was built in with store=…, or run its recipe again",
        )
