"""The background thread that carries spooled records to MLflow, for as long as that takes."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.tracking.server import be_impatient, experiment_id, open_client
from pipeline.tracking.sink import Record, Sink
from pipeline.tracking.spool import Spool
from pipeline.tracking.stale import close_stale_runs

GATHER_SECONDS = 1.0
"How long records are gathered into one batch."
LONGEST_PAUSE_SECONDS = 30.0
REFUSALS = 3
"Attempts at a record that MLflow refuses while it answers otherwise; then the record is passed over."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Destination:
    """Where records go."""

    uri: str
    registry_uri: str | None
    experiment: str
    "Name of the experiment."
    store_path: Path | None
    "The local store's folder, for the artifacts of databases that have no server."

    def open(self) -> Sink:
        client = open_client(self.uri, registry_uri=self.registry_uri)
        return Sink(client, experiment_id(client, self.experiment, uri=self.uri, store_path=self.store_path))


class Delivery:
    """Delivers what dead runs left behind, closes their MLflow runs, and then follows its own spool."""

    def __init__(self, own: Spool, destination: Destination) -> None:
        self._own = own
        self._destination = destination
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that the spool has something new."""
        self._wake.set()

    def close(self, timeout_seconds: float) -> int:
        """Deliver the rest within the time given; returns how many records are left for a later run."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_seconds)
        self._abandoned.set()
        remaining = 0 if self._ended else self._own.remaining()
        if not self._thread.is_alive():
            self._own.close()
        return remaining

    def _run(self) -> None:
        try:
            self._deliver()
        except Exception:
            log.exception("tracking stopped; what is left will follow with a later run")

    def _deliver(self) -> None:
        be_impatient()
        sink = self._open()
        if sink is None:
            return
        for spool in Spool.abandoned(self._own.path.parent, uri=self._destination.uri):
            if self._drain(spool, sink):
                spool.remove()
        self._attempt(lambda: close_stale_runs(sink))
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._closing.wait(GATHER_SECONDS)
            self._drain(self._own, sink)
        if self._drain(self._own, sink):
            self._own.remove()
            self._ended = True

    def _open(self) -> Sink | None:
        for pause in pauses():
            try:
                return self._destination.open()
            except Exception as error:  # noqa: BLE001 (a server that is away has many shapes)
                log.warning("MLflow at %s cannot be reached yet: %s", self._destination.uri, error)
                if not self._pause(pause):
                    return None
        raise AssertionError

    def _drain(self, spool: Spool, sink: Sink) -> bool:
        """Deliver all that the spool has now; False when it gave up because the run is over."""
        while records := spool.pending():
            for group, offset in groups(records):
                if not self._deliver_group(group, spool, sink):
                    return False
                spool.advance(offset)
        return True

    def _deliver_group(self, group: list[Record], spool: Spool, sink: Sink) -> bool:
        """Repeat until MLflow took the group, or refused it for good; False when the run is over."""
        refusals = 0
        for pause in pauses():
            try:
                if group[0]["op"] == "metrics":
                    sink.apply_metrics(group, spool.position)
                else:
                    sink.apply(group[0], spool.position)
            except Exception as error:  # noqa: BLE001 (nothing that MLflow does may stop the delivery)
                refusals += sink.is_reachable()
                log.warning("MLflow did not take %s: %s", group[0]["op"], error)
                if refusals >= REFUSALS:
                    log.error("passed over: %s", group)  # noqa: TRY400 (the traceback is MLflow's)
                    return True
                if not self._pause(pause):
                    return False
            else:
                return True
        raise AssertionError

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 (the next run tries again)
            log.warning("stale runs could not be closed: %s", error)

    def _pause(self, seconds: float) -> bool:
        """Wait before another attempt; False when nobody waits for it any more."""
        if self._closing.is_set():
            self._abandoned.wait(min(seconds, GATHER_SECONDS))
        else:
            self._closing.wait(seconds)
        return not self._abandoned.is_set()


def pauses() -> Iterator[float]:
    """Seconds between attempts: doubling, up to half a minute, without end."""
    for attempt in itertools.count():
        yield min(0.5 * 2 ** min(attempt, 10), LONGEST_PAUSE_SECONDS)


def groups(records: list[tuple[Record, int]]) -> Iterator[tuple[list[Record], int]]:
    """Neighbouring metrics together, everything else alone; each group with the offset that follows it."""
    for is_metrics, run in itertools.groupby(records, key=lambda pair: pair[0]["op"] == "metrics"):
        pairs = list(run)
        if is_metrics:
            yield [record for record, _ in pairs], pairs[-1][1]
        else:
            yield from (([record], offset) for record, offset in pairs)
