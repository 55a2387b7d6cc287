"""`headrace run`: build what the recipe lacks, or only what the named nodes need."""

import argparse
import json
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from pipeline.dag.events import Event, NodeReused, RunFinished, RunStarted
from pipeline.dag.facts import code_commit
from pipeline.dag.folder import machine_cache
from pipeline.dag.plan import Plan
from pipeline.errors import HeadraceError, StageFailedError
from pipeline.report import Report, open_report, quiet
from pipeline.training.config import TrainingConfig
from pipeline.verbs.graph import mermaid, picture
from pipeline.verbs.session import (
    Session,
    add_json_argument,
    add_pin_argument,
    add_recipe_arguments,
    open_session,
)

INTERRUPTED = 130
DELIVERY_SECONDS = 20.0
Status = Literal["FINISHED", "FAILED", "KILLED"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    add_pin_argument(parser)
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    session = open_session(arguments)
    plan = session.planner.plan(arguments.nodes)
    if plan.is_finished:
        return _nothing_to_do(session, plan, as_json=arguments.json)
    session.store.check_writable()
    execution = Execution(session, plan, as_json=arguments.json)
    return execution.run()


class Execution:
    """One run: the report, the tracker and the cluster around the runner."""

    def __init__(self, session: Session, plan: Plan, *, as_json: bool) -> None:
        from pipeline.dag.runner import new_run_id

        self.session, self.plan, self.as_json = session, plan, as_json
        self.run_id = new_run_id()
        self.log_path = log_folder(session) / f"{self.run_id}.log"
        self.began_at = time.time()
        self.lost: HeadraceError | None = None
        self.statuses = {each.node: each.status.value for each in plan.nodes}

    def run(self) -> int:
        interrupt_on_termination()
        with quiet(self.log_path) as streams:
            self.report: Report = open_report(streams.err if self.as_json else streams.out)
            try:
                outcome, status = self._under_report()
            finally:
                self.report.close()
        if self.as_json:
            sys.stdout.write(json.dumps(self._facts(outcome, status), indent=2) + "\n")
        if status == "KILLED":
            return INTERRUPTED
        failed = list(outcome.failed.values()) if outcome else []
        return max((error.exit_code for error in failed), default=0 if status == "FINISHED" else 1)

    def _under_report(self) -> tuple[Any, Status]:
        from pipeline.tracking.config import spool_folder
        from pipeline.tracking.tracker import Tracker

        session = self.session
        store, log = session.store.url, str(self.log_path)
        nodes = self.plan.announcement(session.graph)
        self.report.show(RunStarted(self.run_id, session.recipe, nodes, store, log))
        self.tracker = Tracker(
            session.config.tracking, store_path=session.store_path, spool=spool_folder(store)
        )
        self.tracker.start_run(
            name=f"{session.recipe} {self.run_id}",
            recipe_yaml=session.yaml,
            graph_mermaid=mermaid(session.graph),
            graph_svg=picture(session.graph, self.statuses),
            tags={"headrace.recipe": session.recipe, "headrace.run_id": self.run_id, "headrace.store": store},
        )
        status: Status = "FAILED"
        outcome = None
        try:
            outcome = self._on_cluster()
            status = _status(outcome, self.lost)
        except KeyboardInterrupt:
            status = "KILLED"
        finally:
            self._finish(outcome, status)
        return outcome, status

    def _on_cluster(self) -> Any:
        from pipeline.cluster import connected
        from pipeline.dag.runner import Runner

        session = self.session
        runner: Runner | None = None

        def on_loss() -> None:
            self.lost = StageFailedError(
                "the Ray of this machine has died",
                where=f"see {self.log_path}",
                allowed="a raylet that lives as long as the run",
                do="run the same command again: finished shards and checkpoints are kept",
            )
            if runner:
                runner.give_up(self.lost)

        with connected(session.config.cluster, on_loss=on_loss):
            self._prepare_training()
            runner = Runner(
                session.planner,
                resources=session.config.resources_of,
                listener=self._listen,
                run_id=self.run_id,
                tracking_uri=self.tracker.uri,
                registry_uri=self.tracker.registry_uri,
            )
            return runner.run(self.plan)

    def _prepare_training(self) -> None:
        """Import Ray Train beside the data stages, where a training node is to run after them."""
        stages = self.session.graph.stages
        ahead = [stages[each.node] for each in self.plan.nodes if each.artifact is None]
        if any(isinstance(stage, TrainingConfig) for stage in ahead):
            threading.Thread(target=_import_ray_train, daemon=True).start()

    def _listen(self, event: Event) -> None:
        from pipeline.tracking.events import record

        if hasattr(event, "node"):
            states = {"NodeFinished": "built", "NodeReused": "reused", "NodeFailed": "failed"}
            self.statuses[event.node] = states.get(type(event).__name__, self.statuses.get(event.node, ""))
        record(self.tracker, event)
        self.report.show(event)

    def _finish(self, outcome: Any, status: Status) -> None:
        built, reused, failed = _counts(outcome)
        self._note_run(outcome, status)
        self.report.show(RunFinished(status, time.time() - self.began_at, built, reused, failed))
        self.tracker.finish_run(
            status,
            note=f"{built} built, {reused} reused, {failed} failed",
            graph_svg=picture(self.session.graph, self.statuses),
        )
        self.tracker.close(DELIVERY_SECONDS)

    def _note_run(self, outcome: Any, status: Status) -> None:
        """What this run reached: garbage collection keeps it, and `show` finds it."""
        nodes = {
            node: {"stage": artifact.manifest.stage, "key": artifact.manifest.key}
            for node, artifact in (outcome.artifacts.items() if outcome else ())
        }
        failed = {node: error.what for node, error in outcome.failed.items()} if outcome else {}
        content = {
            "recipe": self.session.recipe,
            "status": status,
            "started_at": self.began_at,
            "seconds": round(time.time() - self.began_at, 3),
            "code_commit": code_commit(),
            "log": str(self.log_path),
            "failed": failed,
            "nodes": nodes,
            "yaml": self.session.yaml,
        }
        with suppress(OSError):  # a full disk has been reported by the node that met it
            self.session.store.root.write_json(f"runs/{self.run_id}.json", content)

    def _facts(self, outcome: Any, status: Status) -> dict[str, Any]:
        built, reused, failed = _counts(outcome)
        artifacts = outcome.artifacts if outcome else {}
        return {
            "run_id": self.run_id,
            "status": status,
            "built": built,
            "reused": reused,
            "failed": failed,
            "log": str(self.log_path),
            "nodes": {
                node: {
                    "key": each.manifest.key,
                    "url": each.folder.url,
                    "metrics": each.manifest.metrics,
                    "counters": each.manifest.counters,
                }
                for node, each in artifacts.items()
            },
        }


def _nothing_to_do(session: Session, plan: Plan, *, as_json: bool) -> int:
    """Everything is in the store: say so, and start nothing."""
    if as_json:
        nodes = {
            each.node: {"key": each.key, "url": each.artifact.folder.url}
            for each in plan.nodes
            if each.artifact
        }
        facts = {"status": "FINISHED", "built": 0, "reused": len(nodes), "failed": 0, "nodes": nodes}
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return 0
    report = open_report(sys.stdout)
    report.show(RunStarted("", session.recipe, plan.announcement(session.graph), session.store.url, ""))
    for each in plan.nodes:
        assert each.artifact
        report.show(NodeReused(each.node, each.stage, each.key, each.artifact.folder.url))
    report.show(RunFinished("FINISHED", 0.0, 0, len(plan.nodes), 0))
    report.close()
    return 0


def _status(outcome: Any, lost: HeadraceError | None) -> Status:
    if outcome.is_interrupted:
        return "KILLED"
    return "FAILED" if outcome.failed or lost else "FINISHED"


def _counts(outcome: Any) -> tuple[int, int, int]:
    return (len(outcome.built), len(outcome.reused), len(outcome.failed)) if outcome else (0, 0, 0)


def log_folder(session: Session) -> Path:
    """Logs lie beside a local store, or in the machine's cache for a remote one."""
    if session.store_path:
        return session.store_path / "logs"
    return machine_cache() / "logs"


def interrupt_on_termination() -> None:
    """End on SIGTERM as on Ctrl-C: statuses true, work kept."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _import_ray_train() -> None:
    from pipeline.training.workers import prepare_driver

    prepare_driver()
