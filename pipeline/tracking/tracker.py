"""The driver's side of tracking: every call becomes one line in a spool, and returns."""

import getpass
import json
import logging
import time
import uuid
from pathlib import Path
from typing import Any, Literal

from pipeline.dag.process import ProcessId
from pipeline.tracking.config import TrackingConfig, tracking_uri
from pipeline.tracking.delivery import Delivery, Destination
from pipeline.tracking.spool import Spool

Status = Literal["FINISHED", "FAILED", "KILLED"]

log = logging.getLogger(__name__)


class Tracker:
    """Records one `headrace run`: a parent run in MLflow, and a child run for each node that runs.

    Calls may come from any thread. None of them waits for MLflow, imports it, or fails because of it: what
    MLflow does not have when the run ends lies in the spool, and a later run on the same machine delivers it.
    """

    def __init__(self, config: TrackingConfig, *, store_path: Path | None, spool: Path) -> None:
        """Begin recording.

        Args:
            config: the recipe's `tracking` section.
            store_path: the store's folder where it is local, else None.
            spool: a folder on this machine for records on their way.

        Raises:
            ConfigError: there is no tracking URI and no local store to put a database into.
        """
        self.uri = tracking_uri(config, store_path=store_path)
        self.registry_uri = config.registry_uri or ""
        self._process = str(ProcessId.current())
        self._spool = Spool.create(spool, uri=self.uri)
        destination = Destination(self.uri, config.registry_uri, config.experiment, store_path)
        self._delivery = Delivery(self._spool, destination)

    def start_run(
        self, *, name: str, recipe_yaml: str, graph_mermaid: str, tags: dict[str, str], graph_svg: str = ""
    ) -> None:
        """Begin the parent run; the resolved recipe and the DAG's picture become its artifacts."""
        files = {"recipe.yaml": recipe_yaml, "graph.mmd": graph_mermaid, **_picture(graph_svg)}
        self._record("start_run", name=name, tags={**_source(), **tags}, files=_given(files))

    def start_node(
        self,
        node: str,
        *,
        stage: str,
        key: str,
        params: dict[str, object],
        tags: dict[str, str],
        below: str = "",
    ) -> None:
        """Begin a node's run, or continue the one that an earlier run left unfinished for the same `key`.

        With `below`, the run hangs below that node's run instead of the parent run, and is shown by what `node` adds
        to that name: `trial 3/base` below `trial 3` is shown as `base`.
        """
        tags = {**_source(), **tags}
        self._record("start_node", node=node, stage=stage, key=key, params=params, tags=tags, below=below)

    def metrics(self, node: str, metrics: dict[str, float], *, step: int, tokens: int | None = None) -> None:
        """Record metrics at an optimizer step; `tokens` seen so far become the metric `train/tokens`."""
        extra = {} if tokens is None else {"train/tokens": float(tokens)}
        self._record("metrics", node=node, metrics={**metrics, **extra}, step=step)

    def finish_node(
        self,
        node: str,
        status: Status,
        *,
        metrics: dict[str, float],
        artifact_url: str,
        note: str,
        digest: str = "",
        tags: dict[str, str] | None = None,
        pages: dict[str, str] | None = None,
    ) -> None:
        """End a node's run. The artifact stays where it is: MLflow keeps its address and digest.

        `note` is Markdown, shown as the run's description; `pages` (file name to text) become its artifacts.
        """
        reference = _given({"url": artifact_url, "digest": digest})
        files = {"artifact.json": json.dumps(reference, indent=2)} if artifact_url else {}
        files |= pages or {}
        tags = (tags or {}) | {f"headrace.artifact.{name}": value for name, value in reference.items()}
        tags |= _given({"mlflow.note.content": note})
        self._record("finish_node", node=node, status=status, metrics=metrics, tags=tags, files=files)

    def finish_run(self, status: Status, *, note: str = "", graph_svg: str = "") -> None:
        """End the parent run, with a description in Markdown and the picture of the DAG as it ended."""
        tags = _given({"mlflow.note.content": note})
        self._record("finish_run", status=status, tags=tags, files=_picture(graph_svg))

    def close(self, timeout_seconds: float) -> int:
        """Wait for the delivery, at most so long; returns the number of records not yet delivered."""
        return self._delivery.close(timeout_seconds)

    def _record(self, operation: str, **fields: Any) -> None:
        record = {
            "op": operation,
            "id": uuid.uuid4().hex,
            "at": int(time.time() * 1000),
            "process": self._process,
            **fields,
        }
        try:
            self._spool.append(record)
        except OSError as error:  # a full disk must not end a training run
            log.warning("a record for MLflow was lost: %s", error)
        self._delivery.wake()


def _source() -> dict[str, str]:
    """What MLflow's own table columns show."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = ""
    return _given({"mlflow.user": user, "mlflow.source.name": "headrace run", "mlflow.source.type": "LOCAL"})


def _picture(svg: str) -> dict[str, str]:
    """A page, because MLflow shrinks images to the width of its panel, while pages scroll."""
    page = f'<!doctype html><meta charset="utf-8"><title>DAG</title><body style="margin:0">{svg}</body>'
    return {"graph.html": page} if svg else {}


def _given(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
