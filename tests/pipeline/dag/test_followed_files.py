"""Files of another node's artifact as they come: found wherever they lie at the moment, on disk and in a bucket."""

import threading
import time

import pytest

from pipeline.dag import following
from pipeline.dag.following import Growing
from pipeline.dag.graph import Edge
from pipeline.errors import StageFailedError

KEY = "k" * 32


@pytest.fixture
def growing(store, monkeypatch) -> Growing:
    """An artifact of two parts, claimed by its builder."""
    monkeypatch.setattr(following, "REMOTE_POLL_SECONDS", 0.1)
    claims = store.root.child(f"locks/write/{KEY}")
    claims.write_json("builder.json", {})
    names = ("train/a", "train/b", "validation/c")
    work, target = store.work_folder("write", KEY), store.artifact_folder("write", KEY)
    return Growing("numbers", "write", KEY, "numbers", names, work, target, claims)


def test_a_file_is_found_before_and_after_the_commit(growing):
    output = growing.work.child("output")
    output.write_bytes("train/a", b"A")
    given = growing.input(Edge("numbers", "train"))
    assert len(given.following) == 2
    assert given.following.wait(0).read_bytes() == b"A"
    output.move_file("train/a", growing.target)
    assert given.following.wait(0).read_bytes() == b"A"
    assert given.folder.local().joinpath("a").read_bytes() == b"A", "the artifact's own copy"


def test_who_waits_gets_the_file_when_it_comes_and_says_what_it_waits_for(growing, monkeypatch):
    monkeypatch.setattr(following, "TELL_SECONDS", 0.3)
    told, found = [], []
    given = growing.input(Edge("numbers", "train")).following
    waiting = threading.Thread(target=lambda: found.append(given.wait(1, told.append)))
    waiting.start()
    deadline = time.monotonic() + 30
    while not told and time.monotonic() < deadline:
        time.sleep(0.05)
    assert told == ["waits for numbers/train: 1 of 2 files are there"]
    growing.work.child("output").write_bytes("train/b", b"B")
    waiting.join(30)
    assert found[0].read_bytes() == b"B"
    assert len(told) == 1


def test_who_waits_for_a_builder_that_is_gone_is_told(growing):
    growing.claims.delete("builder.json")
    with pytest.raises(StageFailedError) as caught:
        growing.input(Edge("numbers", "validation")).following.wait(0)
    assert '"numbers/validation"' in caught.value.what
    growing.target.write_bytes("validation/c", b"C")
    assert growing.input(Edge("numbers", "validation")).following.wait(0).read_bytes() == b"C"


def test_the_manifest_of_what_grows_knows_parts_and_names(growing):
    manifest = growing.input(Edge("numbers", "")).manifest
    assert manifest.parts() == ["train", "validation"]
    assert [file.name for file in manifest.content("train")] == ["train/a", "train/b"]
