"""Checkpoints and the artifact on an object store: a real S3 server, moto's, in its own process."""

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest

from pipeline.dag.folder import Folder, open_folder
from pipeline.dag.resources import Resources

pytestmark = pytest.mark.slow


class Bucket:
    """The bucket `store` on a server that can be taken away and brought back, empty, at the same address."""

    def __init__(self, log: Path) -> None:
        self._log, self._port = log, "0"
        self.start()

    def start(self) -> None:
        code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{self._port}'])"
        with self._log.open("wb") as sink:
            self._server = subprocess.Popen(
                [sys.executable, "-c", code], stdout=sink, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 60
        while not (found := re.search(rb"127\.0\.0\.1:(\d+)", self._log.read_bytes())):
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        self._port = found[1].decode()
        address = f"http://127.0.0.1:{self._port}"
        boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="store")

    def stop(self) -> None:
        self._server.kill()
        self._server.wait()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """In its place something answers 503 to everything."""
        self.stop()
        server = ThreadingHTTPServer(("127.0.0.1", int(self._port)), Unavailable)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()
        server.server_close()
        self.start()

    def folder(self, name: str) -> Folder:
        endpoint = f"127.0.0.1:{self._port}"
        return open_folder(f"s3://store/{name}?scheme=http&endpoint_override={endpoint}&region=us-east-1")


class Unavailable(BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - what http.server looks for

    def log_message(self, *words: object) -> None:
        """Not on the screen."""


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    found = Bucket(tmp_path / "log")
    yield found
    found.stop()


def test_a_run_on_an_object_store_resumes_to_the_bytes_of_a_local_one(here, make_job, bucket):
    from pipeline.training.checkpoint import discard
    from pipeline.training.worker import Order, work

    job = make_job()
    here.run(job, "local", checkpoint_every_steps=5)
    scratch, output = bucket.folder("scratch"), bucket.folder("output")
    for resumed_from in (None, 10):
        if resumed_from:
            discard(scratch, 12)
        work(
            Order(
                job,
                Resources(checkpoint_every_steps=5),
                here.channel,
                scratch,
                output,
                ordered_at=time.time(),
            )
        )
        assert output.read_bytes("model.safetensors") == here.weights("local")
    assert "resumed from the checkpoint of step 10" in here.notes()
    assert scratch.folders() == ["step-00000010", "step-00000012"]


def test_a_bucket_that_answers_503_is_told_and_training_goes_on(here, make_job, bucket):
    """From the first step until the first checkpoint has been given up."""
    from pipeline.training.worker import Order, work

    job = make_job()
    here.run(job, "local")
    scratch, output = bucket.folder("scratch"), bucket.folder("output")
    outage, send = contextlib.ExitStack(), here.channel.send

    def play(event: dict) -> None:
        send(event)
        if event["kind"] == "note" and event["text"].startswith("ready"):
            outage.enter_context(bucket.away())
        if event["kind"] == "note" and "is given up" in event["text"]:
            outage.close()

    here.channel.send = play
    with outage:
        work(Order(job, Resources(checkpoint_every_steps=4), here.channel, scratch, output, time.time()))
    notes = here.notes()
    assert notes.count("the checkpoint of step 4 cannot be written to s3://store/scratch") == 1
    assert "503" in notes or "SERVICE_UNAVAILABLE" in notes
    assert "the checkpoint of step 8 is written; 1 before it given up" in notes
    assert output.read_bytes("model.safetensors") == here.weights("local")
