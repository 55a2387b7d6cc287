"""Checkpoints and the artifact on an object store: a real S3 server, moto's, in its own process."""

import re
import subprocess
import sys
import time

import boto3
import pytest

from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Resources

pytestmark = pytest.mark.slow


@pytest.fixture
def s3_store(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    log = tmp_path / "log"
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [sys.executable, "-c", "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"],
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + 60
    while not (found := re.search(rb"127\.0\.0\.1:(\d+)", log.read_bytes())):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    endpoint = f"127.0.0.1:{found[1].decode()}"
    boto3.client("s3", endpoint_url=f"http://{endpoint}", region_name="us-east-1").create_bucket(
        Bucket="store"
    )
    yield lambda name: open_folder(
        f"s3://store/{name}?scheme=http&endpoint_override={endpoint}&region=us-east-1"
    )
    server.terminate()


def test_a_run_on_an_object_store_resumes_to_the_bytes_of_a_local_one(here, make_job, s3_store):
    from pipeline.training.checkpoint import discard
    from pipeline.training.worker import Order, work

    job = make_job()
    here.run(job, "local", checkpoint_every_steps=5)
    scratch, output = s3_store("scratch"), s3_store("output")
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
