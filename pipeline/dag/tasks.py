"""Shards as Ray tasks: bounded in flight, retried when a worker is lost, recorded when done."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event as StopEvent
from typing import Any
from urllib.parse import quote

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from pipeline.dag.folder import Folder
from pipeline.dag.resources import Resources
from pipeline.errors import StageFailedError, WorkerLostError

WAIT_SECONDS = 0.25
END_SECONDS = 10.0


class Mailbox:
    """Gathers the events of all workers until the driver fetches them."""

    def __init__(self) -> None:
        self._events: list[tuple[str, dict[str, Any]]] = []

    def put(self, node: str, event: dict[str, Any]) -> None:
        self._events.append((node, event))

    def drain(self) -> list[tuple[str, dict[str, Any]]]:
        events, self._events = self._events, []
        return events


def new_mailbox() -> Any:
    """A mailbox actor on the cluster; Ray starts it again when its worker is lost."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Mailbox).remote()


@dataclass(frozen=True)
class MailboxChannel:
    """A node's way into the mailbox, from any process of the cluster."""

    mailbox: Any
    node: str

    def send(self, event: dict[str, Any]) -> None:
        self.mailbox.put.remote(self.node, event)


@dataclass(frozen=True)
class RayMap:
    """The `map` of one node; see `pipeline.dag.stage.MapTasks`."""

    node: str
    work: Folder
    "The node's work folder; finished items are recorded below `done/`."
    resources: Resources
    channel: MailboxChannel
    stop: StopEvent
    "Set when the run is given up: nothing more is started."
    is_followed: bool = False
    "Whether nodes that may hold all cores wait for what is done here: then its tasks ask for none."

    def __call__(
        self,
        function: Callable[..., dict[str, Any]],
        items: Mapping[str, tuple[Any, ...]],
        *,
        unit: str = "shards",
        num_cpus: float = 1,
        num_gpus: float = 0,
    ) -> dict[str, dict[str, Any]]:
        records = self.work.child(f"done/{function.__name__}")
        recorded = {entry.name for entry in records.files()}
        results = {
            name: records.read_json(_record_name(name)) for name in items if _record_name(name) in recorded
        }
        waiting = {name: item for name, item in items.items() if name not in results}
        self._tell(len(results), len(items), unit)
        for name, result in self._run(function, waiting, records, num_cpus, num_gpus):
            results[name] = result
            self._tell(len(results), len(items), unit)
        return {name: results[name] for name in items}

    def _run(
        self,
        function: Callable[..., dict[str, Any]],
        items: Mapping[str, tuple[Any, ...]],
        records: Folder,
        num_cpus: float,
        num_gpus: float,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        num_cpus = min(num_cpus, ray.cluster_resources().get("CPU", 1))
        task = ray.remote(_run_item).options(
            num_cpus=0 if self.is_followed else num_cpus,
            num_gpus=num_gpus,
            max_retries=_retries(self.resources),
            # anywhere: a runner in a Tune trial has a placement group without cores; without a need of cores, evenly
            scheduling_strategy="SPREAD" if self.is_followed else "DEFAULT",
        )
        waiting = deque(items)
        running: dict[Any, str] = {}
        try:
            while (waiting or running) and not self.stop.is_set():
                while waiting and len(running) < self._most_in_flight(num_cpus):
                    name = waiting.popleft()
                    running[task.remote(function, items[name], records, _record_name(name))] = name
                finished, _ = ray.wait(list(running), num_returns=1, timeout=WAIT_SECONDS)
                for reference in finished:
                    name = running.pop(reference)
                    yield name, self._result(reference, name)
        finally:
            _end(list(running))
        if self.stop.is_set():
            raise StageFailedError("given up, since the run is ending", where=self.node)

    def _most_in_flight(self, num_cpus: float) -> int:
        """Twice what can run at once, so that no core waits for the driver and no queue grows with the corpus.

        Tasks that ask for no core all run at once: as many as there are cores.
        """
        cores = ray.cluster_resources().get("CPU", 1)
        queued = 1 if self.is_followed else 2
        return self.resources.num_workers or max(2, int(queued * cores / max(num_cpus, 0.1)))

    def _result(self, reference: Any, name: str) -> dict[str, Any]:
        try:
            result: dict[str, Any] = ray.get(reference)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            cause.add_note(f"in {self.node}, item {name}")
            raise cause from error
        except RayError as error:
            lost = WorkerLostError(
                f"the worker was lost {_retries(self.resources) + 1} times: {_first_line(error)}",
                where=f"{self.node}, item {name}",
                allowed="workers that live as long as their task",
                do="look for lack of memory or a crash in the log; the same command continues where this one stopped",
            )
            lost.item = name
            raise lost from error
        return result

    def _tell(self, done: int, total: int, unit: str) -> None:
        self.channel.send({"kind": "progress", "done": done, "total": total, "unit": unit, "note": ""})


def drain(mailbox: Any, *, timeout_seconds: float = 5.0) -> list[tuple[str, dict[str, Any]]]:
    """The events since the last call, oldest first; none where the mailbox is away for the moment."""
    try:
        events: list[tuple[str, dict[str, Any]]] = ray.get(mailbox.drain.remote(), timeout=timeout_seconds)
    except (GetTimeoutError, RayError):
        time.sleep(WAIT_SECONDS)
        return []
    return events


def _run_item(
    function: Callable[..., dict[str, Any]], item: tuple[Any, ...], records: Folder, record_name: str
) -> dict[str, Any]:
    """In the worker: do the work, then record it here, so that a lost driver costs no finished item."""
    result = function(*item)
    records.write_json(record_name, result)
    return result


def _end(references: list[Any]) -> None:
    """Stop these tasks and see them gone: one that outlived its node would write where the next run writes."""
    for reference in references:
        ray.cancel(reference, force=True)
    if references:
        ray.wait(references, num_returns=len(references), timeout=END_SECONDS, fetch_local=False)


def _record_name(name: str) -> str:
    return f"{quote(name, safe='')}.json"


def _retries(resources: Resources) -> int:
    return 3 if resources.max_failures is None else resources.max_failures


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
