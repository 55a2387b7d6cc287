"""Checkpoints and the artifact on an object store: a real S3 server, moto's, in its own process."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Resources

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def away(server) -> Iterator[None]:
    """In its place something answers 503 to everything."""
    server.stop()
    stands_in = ThreadingHTTPServer(("127.0.0.1", int(server.port)), Unavailable)
    threading.Thread(target=stands_in.serve_forever, daemon=True).start()
    yield
    stands_in.shutdown()
    stands_in.server_close()
    server.start("store")


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
def folder(own_s3, tmp_path, monkeypatch):
    """Folders of the bucket, by name."""
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    return lambda name: open_folder(own_s3.url(f"store/{name}"))


def test_a_run_on_an_object_store_resumes_to_the_bytes_of_a_local_one(here, make_job, folder):
    from pipeline.training.checkpoint import discard
    from pipeline.training.worker import Order, work

    job = make_job()
    here.run(job, "local", checkpoint_every_steps=5)
    scratch, output = folder("scratch"), folder("output")
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


def test_a_bucket_that_answers_503_is_told_and_training_goes_on(here, make_job, folder, own_s3):
    """From the first step until the first checkpoint has been given up."""
    from pipeline.training.worker import Order, work

    job = make_job()
    here.run(job, "local")
    scratch, output = folder("scratch"), folder("output")
    outage, send = contextlib.ExitStack(), here.channel.send

    def play(event: dict) -> None:
        send(event)
        if event["kind"] == "note" and event["text"].startswith("ready"):
            outage.enter_context(away(own_s3))
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
