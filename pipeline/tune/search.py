"""The search: Ray Tune runs the trials, asha ends the worse ones, and every word of theirs comes through here."""

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from pipeline.dag.tasks import drain, new_mailbox
from pipeline.errors import StageFailedError
from pipeline.tune.config import Scheduler, TuneConfig
from pipeline.tune.trial import STEP, VALUE, TrialOrder, TrialRun
from pipeline.tune.trials import Trial, TrialStatus

POLL_SECONDS = 0.2
ENDING_SECONDS = 15.0
LOST_TRIALS = 2
"How often a trial begins again whose process was lost; it goes on from what its stages have kept."
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results as CSV, JSON and TensorBoard: MLflow has them
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a report without a value says that the trial lives
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class StopAll(tune.Stopper):
    """Ends every trial when the search is given up."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        del trial_id, result
        return self.asked

    def stop_all(self) -> bool:
        return self.asked


@dataclass(frozen=True)
class Search:
    """Trials on the connected Ray cluster.

    Args:
        config: the `tune` section.
        past: complete or stopped trials of earlier searches, that asha compares new ones with.
        last_step: the last step of the longest trial; 0 where nothing is reported before the end.
        on_message: told (trial number, message) of every `event` and `end`, from the caller's thread.
        lost: set by whoever sees that the cluster has died; the search then ends without waiting for it.
    """

    config: TuneConfig
    past: Sequence[Trial]
    last_step: int
    on_message: Callable[[int, dict[str, Any]], None]
    lost: threading.Event

    def run(self, orders: dict[int, TrialOrder]) -> None:
        """Run the trials to their ends.

        Raises:
            KeyboardInterrupt: after the trials were given up; what they have kept stays.
            StageFailedError: Ray Tune itself failed.
        """
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        mailbox, stopper, scheduler = new_mailbox(), StopAll(), self.scheduler()
        failures: list[Exception] = []
        with tempfile.TemporaryDirectory(prefix="headrace-tune-", ignore_cleanup_errors=True) as storage:
            tuner = self._tuner(orders, mailbox, stopper, scheduler, storage)
            thread = threading.Thread(target=_fit, args=(tuner, failures), name="tune", daemon=True)
            thread.start()
            try:
                while thread.is_alive() and not self.lost.is_set():
                    self._pass_on(mailbox, scheduler)
                    thread.join(POLL_SECONDS)
            except KeyboardInterrupt:
                stopper.asked = True
                thread.join(ENDING_SECONDS)
                self._pass_on(mailbox, scheduler)
                raise
            if not self.lost.is_set():
                self._pass_on(mailbox, scheduler)
        if failures and not self.lost.is_set():
            raise _explained(failures[0]) from failures[0]

    def _pass_on(self, mailbox: Any, scheduler: Any) -> None:
        """A trial that was ended knows not by whom: only what asha decided counts as its verdict."""
        verdicts: set[int] = getattr(scheduler, "verdicts", set())
        for number, message in drain(mailbox):
            end = message.get("end")
            if end and end.status is TrialStatus.stopped and int(number) not in verdicts:
                message["end"] = replace(end, status=TrialStatus.interrupted)
            self.on_message(int(number), message)

    def _tuner(
        self, orders: dict[int, TrialOrder], mailbox: Any, stopper: StopAll, scheduler: Any, storage: str
    ) -> Any:
        trainable = tune.with_parameters(TrialRun, orders=orders, mailbox=mailbox)
        place = tune.PlacementGroupFactory([{"CPU": 0, _this_node(): 0.001}])
        return tune.Tuner(
            tune.with_resources(trainable, place),
            param_space={"trial": tune.grid_search(sorted(orders))},
            tune_config=tune.TuneConfig(
                scheduler=scheduler, max_concurrent_trials=self.config.max_concurrent
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=storage,
                stop=stopper,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=LOST_TRIALS),
                progress_reporter=_Silent(),
            ),
        )

    def scheduler(self) -> Any:
        """asha, knowing what earlier trials reported, where it has something to go by."""
        config = self.config
        if config.scheduler is Scheduler.none or config.grace_steps >= self.last_step:
            return FIFOScheduler()
        scheduler = Asha(
            time_attr=STEP,
            metric=VALUE,
            mode=config.mode.value,
            max_t=self.last_step + 1,
            grace_period=config.grace_steps,
            reduction_factor=config.reduction_factor,
        )
        for trial in self.past:
            known = SimpleNamespace(trial_id=trial.name, config={"trial": trial.number})
            scheduler.on_trial_add(None, known)
            for step, value in trial.history:
                scheduler.on_trial_result(None, known, {STEP: step, VALUE: value})
        return scheduler


class Asha(AsyncHyperBandScheduler):
    """asha, which remembers whom it ended."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.verdicts: set[int] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if decision == self.STOP:
            self.verdicts.add(trial.config["trial"])
        return decision


class _Silent(tune.ProgressReporter):
    """Ray Tune's table has no reader: the trials are in our own report."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:  # noqa: FBT001, FBT002 - Ray's signature
        del trials, done
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: Any) -> None:  # noqa: FBT001 - Ray's signature
        del trials, done, sys_info


def _fit(tuner: Any, failures: list[Exception]) -> None:
    """In its thread: run Ray Tune, and keep what it fails of."""
    try:
        tuner.fit()
    except Exception as error:  # noqa: BLE001 - it must reach the main thread, whatever it is
        failures.append(error)


def _explained(error: Exception) -> StageFailedError:
    last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return StageFailedError(
        f"Ray Tune failed: {last}",
        where="the search",
        allowed="a search that ends without an error",
        do="look into the log; the same command goes on with the trials that are not finished",
    )


def _this_node() -> str:
    """The resource that only the driver's machine has: trials read the recipe's own files, which are here."""
    mine = ray.get_runtime_context().get_node_id()
    resources = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == mine)
    names: list[str] = [
        name for name in resources if name.startswith("node:") and not name.startswith("node:__internal")
    ]
    return names[0]
