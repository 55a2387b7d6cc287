"""Spooled records applied to MLflow, in such a way that applying one twice is applying it once."""

import json
import re
from dataclasses import dataclass
from typing import Any

from pipeline.tracking.spool import Position

PARAM_CHARACTERS = 500
"What every MLflow server accepts for a parameter; longer ones are shortened, and whole in `params.json`."
TAG_CHARACTERS = 5000
KEY_CHARACTERS = 250
PER_BATCH = 100
"Parameters or tags in one call."
METRICS_PER_BATCH = 1000
PARENT = ""
"The name under which a position keeps the parent run."

KEY_TAG = "headrace.fingerprint"
RECORD_TAG, PROCESS_TAG = "mlflow.headrace.record", "mlflow.headrace.process"
"MLflow's pages hide tags that begin with its own name: these two are for the machine."
Record = dict[str, Any]


@dataclass
class Sink:
    """Applies records to one experiment. Every method may raise what MLflow raises."""

    client: Any
    "An `mlflow.MlflowClient`."
    experiment: str
    "Id of the experiment."

    def is_reachable(self) -> bool:
        """Whether MLflow answers at all: tells a server that is away from a record that it refuses."""
        try:
            self.client.get_experiment(self.experiment)
        except Exception:  # noqa: BLE001 (any reason is a no)
            return False
        return True

    def apply(self, record: Record, position: Position) -> None:
        """Apply any record but metrics; `position` learns the ids of runs."""
        operation = getattr(self, f"_{record['op']}", None)
        if operation is not None:
            operation(record, position)

    def apply_metrics(self, records: list[Record], position: Position) -> None:
        """Apply metrics of any number of nodes with as few calls as MLflow's limits allow."""
        from mlflow.entities import Metric

        by_node: dict[str, list[Metric]] = {}
        for record in records:
            node, step = record["node"], record["step"]
            seen = position.seen.get(node, {})
            by_node.setdefault(node, []).extend(
                Metric(key, value, record["at"], step)
                for key, value in _clean(record["metrics"]).items()
                if step > seen.get(key, -1)  # steps repeated after a checkpoint give the same numbers again
            )
            position.steps[node] = max(step, position.steps.get(node, 0))
        for node, values in by_node.items():
            if node in position.runs:
                self._log_metrics(position.runs[node], values)

    def _log_metrics(self, run_id: str, values: list[Any]) -> None:
        for start in range(0, len(values), METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=values[start : start + METRICS_PER_BATCH])

    def _start_run(self, record: Record, position: Position) -> None:
        tags = {**record["tags"], RECORD_TAG: record["id"], PROCESS_TAG: record["process"]}
        run = self._find(RECORD_TAG, record["id"], "") or self.client.create_run(
            self.experiment, start_time=record["at"], tags=short_tags(tags), run_name=record["name"]
        )
        position.runs[PARENT] = run.info.run_id
        self._log_texts(run.info.run_id, record["files"])

    def _start_node(self, record: Record, position: Position) -> None:
        below = record.get("below", PARENT)
        name = record["node"].removeprefix(f"{below}/")
        tags = {
            **record["tags"],
            "mlflow.parentRunId": position.runs[below],
            RECORD_TAG: record["id"],
            KEY_TAG: record["key"],
            PROCESS_TAG: record["process"],
            "headrace.stage": record["stage"],
        }
        run = self._find(KEY_TAG, record["key"], " and attributes.status != 'FINISHED'")
        if run is None:
            run = self._find(RECORD_TAG, record["id"], "") or self.client.create_run(
                self.experiment, start_time=record["at"], tags=short_tags(tags), run_name=name
            )
        elif run.data.tags.get(RECORD_TAG) != record["id"]:
            self.client.update_run(run.info.run_id, status="RUNNING")
        position.runs[record["node"]] = run.info.run_id
        position.seen[record["node"]] = {metric.key: metric.step for metric in _latest(run)}
        position.steps[record["node"]] = max(position.seen[record["node"]].values(), default=0)
        self._log_params(run, record["params"], tags)

    def _log_params(self, run: Any, params: dict[str, Any], tags: dict[str, str]) -> None:
        """Parameters are for ever in MLflow: where a continued run has another value now, a tag says so."""
        from mlflow.entities import Param, RunTag

        written = {clean_key(name): _text(value) for name, value in params.items()}
        short = {name: _shorten(value, PARAM_CHARACTERS) for name, value in written.items()}
        known = run.data.params
        new = [Param(name, value) for name, value in short.items() if name not in known]
        changed = {f"now.{name}": value for name, value in short.items() if known.get(name, value) != value}
        labels = [RunTag(name, value) for name, value in short_tags({**tags, **changed}).items()]
        for start in range(0, max(len(new), len(labels)), PER_BATCH):
            here = slice(start, start + PER_BATCH)
            self.client.log_batch(run.info.run_id, params=new[here], tags=labels[here])
        if short != written:
            self._log_texts(run.info.run_id, {"params.json": json.dumps(params, indent=2, default=str)})

    def _finish_node(self, record: Record, position: Position) -> None:
        from mlflow.entities import Metric

        node = record["node"]
        run_id = position.runs[node]
        step = position.steps.get(node, 0)
        values = [Metric(key, value, record["at"], step) for key, value in _clean(record["metrics"]).items()]
        self._log_metrics(run_id, values)
        self._finish(run_id, record)

    def _finish_run(self, record: Record, position: Position) -> None:
        self._finish(position.runs[PARENT], record)

    def _finish(self, run_id: str, record: Record) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, value) for name, value in short_tags(record["tags"]).items()]
        self.client.log_batch(run_id, tags=tags)
        self.client.set_terminated(run_id, record["status"], record["at"])
        self._log_texts(run_id, record["files"])

    def _log_texts(self, run_id: str, files: dict[str, str]) -> None:
        for name, text in files.items():
            self.client.log_text(run_id, text, name)

    def _find(self, tag: str, value: str, condition: str) -> Any:
        found = self.client.search_runs(
            [self.experiment],
            f"tags.`{tag}` = '{value}'{condition}",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        return found[0] if found else None


def _latest(run: Any) -> list[Any]:
    """The newest value of each metric, with its step, which MLflow's public view leaves out."""
    return list(run.data._metric_objs)  # noqa: SLF001


def clean_key(name: str) -> str:
    """A name with only the characters that MLflow allows in the names of metrics and parameters."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:KEY_CHARACTERS]


def _clean(metrics: dict[str, float]) -> dict[str, float]:
    return {clean_key(name): value for name, value in metrics.items()}


def short_tags(tags: dict[str, str]) -> dict[str, str]:
    return {name[:KEY_CHARACTERS]: _shorten(str(value), TAG_CHARACTERS) for name, value in tags.items()}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
