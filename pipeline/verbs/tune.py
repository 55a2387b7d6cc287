"""`headrace tune`: trials of the recipe with other values, and the best of them as a recipe that `run` accepts."""

import argparse
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.table import Table

from pipeline.dag.events import NodeNote, RunFinished, RunStarted
from pipeline.dag.plan import Plan
from pipeline.errors import ConfigError
from pipeline.report import open_report, quiet
from pipeline.report.table import open_console
from pipeline.tracking.config import spool_folder
from pipeline.tracking.tracker import Tracker
from pipeline.tune.config import Mode
from pipeline.tune.memory import TrialMemory
from pipeline.tune.trials import Trial, TrialStatus, best_of
from pipeline.verbs.best import best_recipe, check_expressible, write_recipe
from pipeline.verbs.graph import mermaid, picture
from pipeline.verbs.run import DELIVERY_SECONDS, INTERRUPTED, Status, interrupt_on_termination, log_folder
from pipeline.verbs.search import SearchRun, announcement, in_words, shared_plan
from pipeline.verbs.session import Session, add_json_argument, add_recipe_arguments, open_session
from pipeline.verbs.trial_log import TrialLog
from pipeline.verbs.trials import Prepared, prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser, words="OVERRIDE")
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    if arguments.nodes:
        raise ConfigError(
            f'"{arguments.nodes[0]}" is no override',
            where="the command line",
            allowed="overrides KEY=VALUE",
            do=f"to search by the metric of a node, set tune.node={arguments.nodes[0]}",
        )
    session = open_session(arguments)
    check_expressible(arguments.overrides)
    command = TuneCommand(session, arguments.overrides, prepare(session, arguments.overrides))
    return command.run(as_json=arguments.json)


class TuneCommand:
    """One `headrace tune`: the report and the tracker around the search, and what comes of it."""

    def __init__(self, session: Session, overrides: list[str], prepared: Prepared) -> None:
        from pipeline.dag.runner import new_run_id

        self.session, self.overrides, self.prepared = session, overrides, prepared
        self.config, self.run_id = session.config.tune, new_run_id()
        self.log_path = log_folder(session) / f"{self.run_id}.log"
        self.began_at = time.time()
        self.copy = ""
        "Where in the store the best recipe lies too: a job's folder does not outlive it."
        self.memory = TrialMemory(
            session.store, self.config, prepared.node, prepared.sharing, f"{session.recipe}-tune"
        )

    def run(self, *, as_json: bool) -> int:
        shared = shared_plan(self.session, self.prepared)
        if shared.is_finished:
            self.memory.recall(
                self.prepared.trials, {each.node: each.artifact for each in shared.nodes if each.artifact}
            )
        status: Status = "FINISHED"
        code = 0
        if not shared.is_finished or any(trial.is_open for trial in self.prepared.trials):
            self.session.store.check_writable()
            status, code = self._search(shared, as_json=as_json)
            self.copy = f"searches/{self.run_id}.yaml"
        if code != INTERRUPTED:
            self._write_best()
        if as_json:
            sys.stdout.write(json.dumps(self._facts(status), indent=2) + "\n")
        else:
            self._print()
        return code

    @property
    def best(self) -> Trial | None:
        return best_of(self.prepared.trials, lower_is_better=self.config.mode is Mode.min)

    def _search(self, shared: Plan, *, as_json: bool) -> tuple[Status, int]:
        interrupt_on_termination()
        with quiet(self.log_path) as streams:
            self.report = open_report(streams.err if as_json else streams.out)
            try:
                return self._under_report(shared)
            finally:
                self.report.close()

    def _under_report(self, shared: Plan) -> tuple[Status, int]:
        session, store = self.session, self.session.store.url
        nodes = announcement(session, self.prepared, shared)
        self.report.show(
            RunStarted(self.run_id, f"{session.recipe}, search", nodes, store, str(self.log_path))
        )
        for note in self.prepared.notes:
            self.report.show(NodeNote("", note))
        tracker = Tracker(session.config.tracking, store_path=session.store_path, spool=spool_folder(store))
        self._start_tracking(tracker)
        trials = {trial.number: trial for trial in self.prepared.trials}
        log = TrialLog(trials, self.memory, self.report, tracker, self.run_id)
        search = SearchRun(session, self.prepared, log, self.log_path)
        status: Status = "FAILED"
        try:
            search.run(shared)
            status = "FINISHED" if self.best and not search.errors else "FAILED"
        except KeyboardInterrupt:
            status = "KILLED"
        finally:
            self._finish(status, tracker, log)
        return status, self._exit_code(status, search)

    def _start_tracking(self, tracker: Tracker) -> None:
        session = self.session
        tags = {
            "headrace.recipe": session.recipe,
            "headrace.run_id": self.run_id,
            "headrace.store": session.store.url,
            "headrace.search": json.dumps(self.config.search),
            "headrace.decided_by": f"{self.prepared.node} {self.config.metric}",
        }
        tracker.start_run(
            name=f"{session.recipe} search {self.run_id}",
            recipe_yaml=session.yaml,
            graph_mermaid=mermaid(session.graph),
            graph_svg=picture(session.graph, {}),
            tags=tags,
        )

    def _finish(self, status: Status, tracker: Tracker, log: TrialLog) -> None:
        seconds, counts = time.time() - self.began_at, log.counts
        self._note_run()
        self.report.show(RunFinished(status, seconds, counts["built"], counts["reused"], counts["failed"]))
        best = self.best
        words = (
            f"best: {best.name}, {self.config.metric} {best.value:.6g}, {in_words(best)}"
            if best
            else "no trial is complete"
        )
        tracker.finish_run(status, note=words)
        tracker.close(DELIVERY_SECONDS)

    def _note_run(self) -> None:
        """What this search reached: garbage collection keeps it."""
        stage = self.session.graph.stages[self.prepared.node].name
        nodes = {
            trial.name: {"stage": stage, "key": trial.artifact_key}
            for trial in self.prepared.trials
            if trial.is_complete
        }
        content = {"recipe": self.session.recipe, "nodes": nodes, "yaml": self.session.yaml}
        with suppress(OSError):  # a full disk has been reported by the node that met it
            self.session.store.root.write_json(f"runs/{self.run_id}.json", content)

    def _exit_code(self, status: Status, search: SearchRun) -> int:
        if status == "KILLED":
            return INTERRUPTED
        failed = [trial.error for trial in self.prepared.trials if trial.status is TrialStatus.failed]
        errors = [*search.errors, *(error for error in failed if error)]
        return 0 if status == "FINISHED" else max((error.exit_code for error in errors), default=1)

    def _write_best(self) -> None:
        if best := self.best:
            words = (
                f"Written by headrace tune: {best.name} of {len(self.prepared.trials)}, the best by "
                f"{self.config.metric} of {self.prepared.node}: {best.value:.6g}."
            )
            path = Path(self.config.write_best)
            text = best_recipe(path, self.overrides, best.overrides, words=words)
            write_recipe(path, text)
            if self.copy:
                self.session.store.root.write_bytes(self.copy, text.encode())

    def _facts(self, status: Status) -> dict[str, Any]:
        best = self.best
        return {
            "status": status,
            "node": self.prepared.node,
            "metric": self.config.metric,
            "notes": self.prepared.notes,
            "trials": [
                {
                    "trial": trial.number,
                    "overrides": trial.overrides,
                    "status": trial.status.value,
                    "value": trial.value,
                    "step": trial.step,
                    "key": trial.artifact_key or None,
                    "error": trial.error.what if trial.error else None,
                }
                for trial in self.prepared.trials
            ],
            "best": best.number if best else None,
            "recipe": self.config.write_best if best else None,
        }

    def _print(self) -> None:
        console, best = open_console(sys.stdout), self.best
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        keys = [key.removeprefix("stages.") for key in self.config.search]
        for name in ("trial", *keys):
            table.add_column(name, overflow="fold")
        table.add_column(self.config.metric, justify="right", no_wrap=True)
        table.add_column("step", justify="right", no_wrap=True)
        table.add_column("status", no_wrap=True)
        for trial in self.prepared.trials:
            value = "" if trial.value is None else f"{trial.value:.5g}"
            chosen = f"{trial.status.value}, best" if trial is best else trial.status.value
            values = [str(each) for each in trial.overrides.values()]
            style = "bold green" if trial is best else ""
            table.add_row(str(trial.number), *values, value, str(trial.step or ""), chosen, style=style)
        console.print()
        console.print(table)
        if best:
            path = self.config.write_best
            copy = f" and to {self.session.store.root.child(self.copy).url}" if self.copy else ""
            named = Path(path).stem if Path(path).parent == Path("conf/recipe") else path
            console.print(
                f"\nbest: {best.name}, {in_words(best)}; written to {path}{copy}\n"
                f"  headrace run {self.prepared.node} recipe={named}    finds it built"
            )
