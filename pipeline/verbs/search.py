"""A search on a Ray cluster: what the trials share is built first, then the trials."""

import threading
from pathlib import Path
from typing import Any

from pipeline.dag.events import NodeReused, PlannedNode, Status
from pipeline.dag.plan import Plan
from pipeline.dag.store import Artifact
from pipeline.errors import HeadraceError, StageFailedError
from pipeline.tune.trials import Trial, TrialStatus
from pipeline.verbs.session import Session
from pipeline.verbs.trial_log import INTERRUPTION, TRIAL, TrialLog, lost_process
from pipeline.verbs.trials import Prepared, last_step_of, share_out


def shared_plan(session: Session, prepared: Prepared) -> Plan:
    """The plan of what all trials share."""
    shared = prepared.sharing.shared
    return session.planner.plan(shared) if shared else Plan([])


def announcement(session: Session, prepared: Prepared, shared: Plan) -> list[PlannedNode]:
    """The shared nodes, and the trials as if they were nodes below them."""
    graph = session.graph
    inputs = {parent for node in prepared.sharing.own for parent in graph.parents(node)}
    above = [node for node in prepared.sharing.shared if node in inputs]
    trials = [
        PlannedNode(trial.name, TRIAL, Status.RUN, [in_words(trial)], above) for trial in prepared.trials
    ]
    return [*shared.announcement(graph), *trials]


def in_words(trial: Trial) -> str:
    """`base.learning_rate 0.003, base.num_steps 100`."""
    return ", ".join(f"{key.removeprefix('stages.')} {value}" for key, value in trial.overrides.items())


class SearchRun:
    """One search.

    Args:
        session: the recipe without a trial's overrides.
        prepared: its trials.
        log: told everything that happens.
        log_path: where Ray's words go.
    """

    def __init__(self, session: Session, prepared: Prepared, log: TrialLog, log_path: Path) -> None:
        self.session, self.prepared, self.log, self.log_path = session, prepared, log, log_path
        self.errors: list[HeadraceError] = []
        "Of what stands above the trials: shared nodes, and the cluster."
        self._lost = threading.Event()
        self._runner: Any = None

    def run(self, shared: Plan) -> None:
        """Build the shared nodes, then the trials.

        Raises:
            KeyboardInterrupt: the user interrupted; everything finished is kept.
        """
        from pipeline.cluster import connected

        with connected(self.session.config.cluster, on_loss=self._on_loss):
            artifacts = self._build_shared(shared)
            if artifacts is None:
                return
            self.log.memory.recall(self.prepared.trials, artifacts)
            self.log.tell_recalled()
            if any(trial.is_open for trial in self.prepared.trials):
                self._run_trials()

    def _build_shared(self, plan: Plan) -> dict[str, Artifact] | None:
        if plan.is_finished:
            for each in plan.nodes:
                assert each.artifact
                self.log.listen(NodeReused(each.node, each.stage, each.key, each.artifact.folder.url))
            return {each.node: each.artifact for each in plan.nodes if each.artifact}
        from pipeline.dag.runner import Runner

        self._runner = Runner(
            self.session.planner,
            resources=self.session.config.resources_of,
            listener=self.log.listen,
            run_id=self.log.run_id,
            tracking_uri=self.log.tracker.uri,
            registry_uri=self.log.tracker.registry_uri,
        )
        outcome = self._runner.run(plan)
        if outcome.is_interrupted:
            raise KeyboardInterrupt
        self.errors += [error for error in outcome.failed.values() if error not in self.errors]
        return None if self.errors else outcome.artifacts

    def _run_trials(self) -> None:
        from pipeline.tune.search import Search

        trials = self.prepared.trials
        search = Search(
            config=self.session.config.tune,
            past=[trial for trial in trials if not trial.is_open],
            last_step=self.prepared.last_step,
            on_message=self.log.hear,
            lost=self._lost,
        )
        try:
            search.run({trial.number: self._order(trial) for trial in trials if trial.is_open})
        except KeyboardInterrupt:
            self.log.end_running(TrialStatus.interrupted, INTERRUPTION)
            raise
        except StageFailedError as error:
            self.errors.append(error)
        self.log.end_running(
            TrialStatus.failed, self.errors[0] if self.errors else lost_process(self.log_path)
        )

    def _order(self, trial: Trial) -> Any:
        import ray

        from pipeline.tune.trial import TrialOrder

        config, node, cluster = self.session.config.tune, self.prepared.node, ray.cluster_resources()
        resources = {
            name: share_out(each, num_trials=config.max_concurrent, cluster=cluster)
            for name, each in trial.resources.items()
        }
        return TrialOrder(
            number=trial.number,
            stages=dict(trial.graph.stages),
            resources=resources,
            node=node,
            metric=config.metric,
            last_step=last_step_of(trial.graph.stages[node]) or 1,
            store_url=self.session.store.url,
            recipe=self.log.memory.recipe,
            run_id=self.log.run_id,
            tracking_uri=self.log.tracker.uri,
            registry_uri=self.log.tracker.registry_uri,
            working_folder=str(Path.cwd()),
        )

    def _on_loss(self) -> None:
        lost = StageFailedError(
            "the Ray of this machine has died",
            where=f"see {self.log_path}",
            allowed="a raylet that lives as long as the search",
            do="run the same command again: finished trials, shards and checkpoints are kept",
        )
        self.errors.append(lost)
        self._lost.set()
        if self._runner:
            self._runner.give_up(lost)
