"""What every test may rely on: signals, object stores, and a Ray that knows the test's classes."""

import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a script, where shells ignore it; commands under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

AWS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Lane(IntEnum):
    """What the tests of a module mostly wait for; in the order in which they are begun.

    Ranks come last: each test has two that take turns, and suffers more than others from a third that wants a core.
    """

    ray = 0
    nothing = 1
    ranks = 2


@cache
def lane_of(module: Path) -> Lane:
    text = module.read_text()
    if "mark.slow" not in text:
        return Lane.nothing
    return Lane.ranks if "runs.run(" in text else Lane.ray


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that all processes end together."""
    items.sort(key=lambda item: (lane_of(item.path), item.path.name != "test_docs.py"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `-n 2`: what waits for Ray one after the other in one process, the others beside it in the other.

    Two Rays at once would wait too long. Not so bare ranks.
    """
    from xdist.scheduler import LoadScopeScheduling

    class RayTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "ray" if lane_of(config.rootpath / module) is Lane.ray else module

    config.option.loadscopereorder = False  # as collected, and not by the number of tests
    return RayTogether(config, log)


BEGUN: set[Path] = set()
"Modules of which this process has run a test."


def pytest_configure() -> None:
    """Looking for garbage in a process that has loaded every library is a fifth of what its tests take."""
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without a GPU, what needs one is skipped. Beside a process whose tests wait for Ray, whose workers are nice,
    others stand back.
    """
    if item.path not in BEGUN:
        BEGUN.add(item.path)
        gc.freeze()
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
    if "PYTEST_XDIST_WORKER" in os.environ and lane_of(item.path) is not Lane.ray and not os.nice(0):
        os.nice(19)


class ObjectServer:
    """A real S3 server, moto's, in its own process: taken away and brought back, empty, at the same address."""

    def __init__(self, log: Path) -> None:
        self._log, self.port = log, "0"

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, bucket: str) -> None:
        """Answers, and has an empty bucket of that name, when this returns."""
        code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{self.port}'])"
        with self._log.open("wb") as sink:
            self._server = subprocess.Popen(
                [sys.executable, "-c", code], stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while not (found := re.search(rb"Running on http://127\.0\.0\.1:(\d+)", self._log.read_bytes())):
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        self.port = found[1].decode()
        boto3.client("s3", endpoint_url=f"http://{self.endpoint}").create_bucket(Bucket=bucket)

    def stop(self) -> None:
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()

    def url(self, place: str) -> str:
        """Of what lies at `BUCKET/PATH`."""
        return f"s3://{place}?scheme=http&endpoint_override={self.endpoint}&region=us-east-1"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """The server for all tests that leave it as it is; with the bucket `store`."""
    server = ObjectServer(tmp_path_factory.mktemp("moto") / "log")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS_ENVIRONMENT.items():
            patch.setenv(name, value)
        server.start("store")
        yield server
        server.stop()


@pytest.fixture
def own_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """A server for one test, which may stop and start it; with the bucket `store`."""
    for name, value in AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    server = ObjectServer(tmp_path / "moto.log")
    server.start("store")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def on_ray(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A Ray of two cores for a module, whose functions and classes its workers get by value."""
    from ray import cloudpickle

    from pipeline.cluster import ClusterConfig, connected

    cloudpickle.register_pickle_by_value(request.module)  # workers cannot import test modules
    with connected(ClusterConfig(num_cpus=2), on_loss=lambda: None):
        yield
