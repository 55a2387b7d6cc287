"""`headrace ui`: MLflow's own pages on the tracking database, on loopback."""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TextIO
from urllib.parse import quote

from pipeline.errors import ConfigError, HeadraceError
from pipeline.tracking.config import TrackingConfig, spool_folder, sqlite_path, tracking_uri
from pipeline.tracking.server import QUIET, create_database
from pipeline.tracking.tracker import Tracker

PORTS_TRIED = 20
START_SECONDS = 90.0
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Address:
    """Where the pages are served."""

    host: str = "127.0.0.1"
    "Loopback, unless asked otherwise: MLflow's pages ask for no password."
    port: int = 5000
    "The first port tried; 0 takes any free one."

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="OVERRIDE", help="such as store=… or tracking.uri=…")
    parser.add_argument("--host", default=Address.host, help="where to listen (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=Address.port, help="first port tried; 0: any (default: %(default)s)"
    )


def main(arguments: argparse.Namespace) -> int:
    from pipeline.config import compose_recipe
    from pipeline.dag.folder import open_folder

    config = compose_recipe(arguments.overrides).config
    store = open_folder(config.store)
    ui(
        tracking_uri(config.tracking, store_path=Path(store.path) if store.is_local else None),
        address=Address(arguments.host, arguments.port),
        spool=spool_folder(store.url),
        registry_uri=config.tracking.registry_uri,
        experiment=config.tracking.experiment,
    )
    return 0


def ui(
    uri: str,
    *,
    address: Address = Address(),
    spool: Path | None = None,
    registry_uri: str | None = None,
    experiment: str = "headrace",
    out: TextIO = sys.stdout,
) -> None:
    """Serve MLflow's pages until Ctrl-C or SIGTERM, and say where they are.

    Args:
        uri: any tracking URI; one that is a server already is only named.
        address: where to listen; the next free port where that one is taken.
        spool: where runs that died left their records; they are delivered, and their runs closed, beside the start.
        registry_uri: the model registry, where it is not the tracking URI.
        experiment: name of the experiment whose runs the printed address opens.
        out: where the one line for the person goes.

    Raises:
        ConfigError: no port is free.
        HeadraceError: the server did not come up; its last words are in the error.
    """
    if uri.startswith(("http://", "https://")):
        print(f"MLflow is served at {uri}", file=out, flush=True)
        return
    _settle(uri, spool)
    with serving(uri, address=address, registry_uri=registry_uri) as (server, url):
        print(f"MLflow UI: {url}{_page(url, experiment)}  (Ctrl-C ends it)", file=out, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()


@contextlib.contextmanager
def serving(
    uri: str, *, address: Address, registry_uri: str | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An MLflow server that answers, and its URL; it ends with the block."""
    address = free_address(address)
    database = sqlite_path(uri)
    if database is not None:
        create_database(database)
    with tempfile.NamedTemporaryFile(prefix="headrace-ui-", suffix=".log") as log, _terminable():
        server = subprocess.Popen(
            _command(uri, address, registry_uri),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
        try:
            _wait_until_it_answers(server, address, Path(log.name))
            yield server, address.url
        finally:
            _stop(server)


def free_address(address: Address) -> Address:
    """The address itself, or with the next port that is free.

    Raises:
        ConfigError: none of the next ports is free.
    """
    for port in [0] if address.port == 0 else range(address.port, address.port + PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, port))
            except OSError:
                continue
            return replace(address, port=probe.getsockname()[1])
    raise ConfigError(
        f"nothing can listen on {address.host}, port {address.port} to {address.port + PORTS_TRIED - 1}",
        where="--host, --port",
        allowed="an address of this machine and a free port",
        do="give another port, or --port 0 for any free one",
    )


def _page(url: str, experiment: str) -> str:
    """The experiment's table of training runs; MLflow's own first page is about chat applications."""
    query = f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment)}"
    try:
        with urllib.request.urlopen(query, timeout=5) as answer:  # noqa: S310 (http, ours)
            number = json.load(answer)["experiment"]["experiment_id"]
    except (OSError, ValueError, KeyError):  # nothing has run yet
        return ""
    return f"/#/experiments/{number}/runs?workflowType=machine_learning"


def _command(uri: str, address: Address, registry_uri: str | None) -> list[str]:
    database = sqlite_path(uri)
    # Without a root of its own the server would take ./mlruns of wherever it was started.
    root = ["--default-artifact-root", str(database.absolute().parent / "artifacts")] if database else []
    registry = ["--registry-store-uri", registry_uri] if registry_uri else []
    return [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri),
        *(*root, *registry, "--no-serve-artifacts", "--workers", "1"),
        *("--host", address.host, "--port", str(address.port)),
    ]


def _settle(uri: str, spool: Path | None) -> None:
    """Deliver what dead runs left, and set their runs to KILLED, before anybody looks."""
    if spool is not None:
        Tracker(TrackingConfig(uri=uri), store_path=None, spool=spool).close(STOP_SECONDS)


def _wait_until_it_answers(server: subprocess.Popen[bytes], address: Address, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{address.url}/health", timeout=2).close()  # noqa: S310 (http, ours)
            return
        time.sleep(0.1)
    said = log.read_text(errors="replace").strip().splitlines()[-5:]
    raise HeadraceError(
        "the MLflow server did not start: " + " | ".join(said),
        where=f"tracking.uri, {address.url}",
        allowed="a tracking database that this version of MLflow can open",
        do="read its words above; after an upgrade of MLflow, `mlflow db upgrade URI` brings a database up to date",
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server with all its workers."""
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(patience)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that the server never outlives the command."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
