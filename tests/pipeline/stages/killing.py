"""A driver that kills: its workers in the middle of items, or itself between items; beside the tests that start it.

Every data stage stands alone: its inputs are pinned to the artifacts of an undisturbed run, so that all stages run at
once, and one death of the driver meets each of them half done.
"""

import argparse
import copy
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.cluster import ClusterConfig, connected
from pipeline.config import compose_recipe
from pipeline.dag import builder
from pipeline.dag.folder import Folder
from pipeline.dag.graph import Graph
from pipeline.dag.plan import Planner
from pipeline.dag.resources import Resources
from pipeline.dag.runner import Runner
from pipeline.dag.store import Store
from pipeline.dag.tasks import RayMap
from pipeline.stages import tokenize

AGAIN = "_again"
PART_BYTES = 700


class Watch:
    """A map's function that notes each item it begins; an item in `victims` takes its worker with it, once."""

    def __init__(
        self, function: Callable[..., Any], node: str, folder: Path, victims: dict[str, str]
    ) -> None:
        self.__name__, self._function, self._node = function.__name__, function, node
        self._folder, self._victims = folder, victims

    def __call__(self, item: str, *arguments: Any) -> dict[str, Any]:
        line = json.dumps([self._node.removesuffix(AGAIN), self.__name__, item])
        with (self._folder / "begun.jsonl").open("a") as sink:
            sink.write(f"{line}\n")
        dies = self._dies(item, line)
        if dies and self._victims[item] == "writing":
            _die_before_a_file_is_whole()
        result = self._function(*arguments)
        if dies:
            _die()  # before it is recorded
        return result

    def _dies(self, item: str, line: str) -> bool:
        died = self._folder / "died.jsonl"
        if item not in self._victims or (died.exists() and line in died.read_text().splitlines()):
            return False
        with died.open("a") as sink:
            sink.write(f"{line}\n")
        return True


class Gate:
    """A node's channel that stops the node at the first item that this driver sees done, until all nodes are there."""

    def __init__(self, channel: Any, arrive: Callable[[], None]) -> None:
        self._channel, self._arrive, self._told = channel, arrive, 0

    def send(self, event: dict[str, Any]) -> None:
        self._channel.send(event)
        self._told += 1
        if self._told > 1 or event["done"] == event["total"]:
            self._arrive()


class Killing:
    """What stands in the runner for `RayMap`."""

    def __init__(self, options: argparse.Namespace, nodes: set[str]) -> None:
        self._options, self._folder, self._missing = options, Path(options.folder), nodes
        self._gates = dict(each.split("=") for each in options.gate)

    def __call__(self, node: str, work: Folder, resources: Resources, channel: Any, *more: Any) -> Any:
        def mapped(function: Any, items: dict[str, tuple[Any, ...]], **options: Any) -> Any:
            watch = Watch(function, node, self._folder, self._victims(function.__name__, items))
            is_gated = self._gates.get(node.removesuffix(AGAIN), function.__name__) == function.__name__
            gate = Gate(channel, lambda: self._arrive(node)) if self._options.die and is_gated else channel
            named = {name: (name, *item) for name, item in items.items()}
            return RayMap(node, work, resources, gate, *more)(watch, named, **options)

        return mapped

    def _victims(self, function: str, items: dict[str, Any]) -> dict[str, str]:
        """The first item of a map dies before a file of it is whole; an only one when all are."""
        chosen = self._options.kill_workers
        if chosen is None or (chosen and function not in chosen) or not items:
            return {}
        return {next(iter(items)): "writing" if len(items) > 1 else "done"}

    def _arrive(self, node: str) -> None:
        self._missing.discard(node)
        if not self._missing:
            _die()
        threading.Event().wait()


def _die_before_a_file_is_whole() -> None:
    original = Folder.writing

    @contextmanager
    def writing(folder: Folder, name: str) -> Any:
        with original(folder, name) as sink:
            yield sink
            sink.flush()
            _die()

    Folder.writing = writing


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", help="of the Ray")
    parser.add_argument(
        "--folder", help="with the recipe, the reference store, the store to fill and what is noted"
    )
    parser.add_argument(
        "--kill-workers", nargs="*", help="one in each map, or in the maps of these functions"
    )
    parser.add_argument("--only", nargs="*", default=[], help="build these nodes; else all")
    parser.add_argument("--max-failures", type=int)
    parser.add_argument("--die", action="store_true", help="as soon as every node has an item done")
    parser.add_argument(
        "--gate", nargs="*", default=[], help="NODE=FUNCTION: the map that counts; else the first"
    )
    options, overrides = parser.parse_known_args()
    composed = compose_recipe(overrides)
    reference = Planner(Graph(composed.config.stages), Store(composed.config.store), recipe="reference")
    pins = {each.node: each.artifact for each in reference.plan().nodes if each.artifact}
    nodes = [node for node in composed.config.stages if node in pins]
    stages = {node: composed.config.stages[node] for node in nodes}
    stages |= {f"{node}{AGAIN}": copy.copy(stages[node]) for node in nodes}
    planner = Planner(Graph(stages), Store(f"{options.folder}/store"), recipe="killed", pins=pins)
    builder.RayMap = Killing(options, {node for node in stages if node.endswith(AGAIN)})
    tokenize.PART_BYTES = PART_BYTES
    with connected(ClusterConfig(address=options.address), on_loss=lambda: None):
        resources = Resources(num_workers=2, max_failures=options.max_failures)
        run = Runner(planner, resources=lambda _: resources, listener=lambda _: None, run_id="killed")
        outcome = run.run(planner.plan([f"{node}{AGAIN}" for node in options.only]))
    digests = {node.removesuffix(AGAIN): outcome.artifacts[node].manifest.digest for node in outcome.built}
    failed = {node.removesuffix(AGAIN): error.where for node, error in outcome.failed.items()}
    sys.stdout.write(json.dumps({"digests": digests, "failed": failed}) + "\n")


if __name__ == "__main__":
    main()
