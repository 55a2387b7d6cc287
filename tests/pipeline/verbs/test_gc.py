import os

import pytest

from pipeline.dag.collect import delete_garbage, find_garbage
from pipeline.dag.folder import Folder
from pipeline.dag.store import Store


@pytest.fixture
def outdated(make_tiny):
    """A store whose recipe has moved on: three artifacts that nothing reaches."""
    tiny = make_tiny()
    before = tiny.build(["split"])
    after = tiny.build(["split"], ["stages.clean.rules.min_words=20"])
    lost = {each.manifest.key for each in before.values()} - {each.manifest.key for each in after.values()}
    return tiny, lost


def keys(tiny):
    return {artifact.manifest.key for artifact in Store(tiny.url).artifacts()}


def test_a_dry_run_tells_and_deletes_nothing(headrace, outdated):
    tiny, lost = outdated
    before = keys(tiny)
    facts = headrace("gc", "--dry-run", "--json", *tiny.overrides).json
    assert {each["key"] for each in facts["garbage"]} == lost
    assert len(lost) == 3
    assert facts["deleted"] is False
    assert facts["bytes"] == sum(each["bytes"] for each in facts["garbage"]) > 0
    assert keys(tiny) == before
    said = headrace("gc", "--dry-run", *tiny.overrides)
    assert "3 artifacts" in said.out
    assert "would be deleted" in said.out


def test_garbage_goes_and_the_rest_stays_whole(headrace, outdated):
    tiny, lost = outdated
    before = keys(tiny)
    assert headrace("gc", *tiny.overrides).code == 0
    assert keys(tiny) == before - lost
    assert not any(key in path for key in lost for path, _, _ in os.walk(tiny.url))
    plan = headrace("plan", "split", "--json", "stages.clean.rules.min_words=20", *tiny.overrides).json
    assert {node["status"] for node in plan["nodes"]} == {"reuse"}
    assert "nothing to delete" in headrace("gc", *tiny.overrides).out


def test_recent_runs_are_kept_as_many_as_asked(headrace, outdated):
    tiny, lost = outdated
    store = Store(tiny.url)
    nodes = {each.manifest.stage: {"stage": each.manifest.stage, "key": each.manifest.key}
             for each in store.artifacts() if each.manifest.key in lost}  # fmt: skip
    store.root.write_json("runs/20260101-000000-1.json", {"nodes": nodes})
    assert headrace("gc", "--json", *tiny.overrides).json["garbage"] == []
    facts = headrace("gc", "--keep-runs", "0", "--dry-run", "--json", *tiny.overrides).json
    assert {each["key"] for each in facts["garbage"]} == lost


def test_old_work_goes_and_young_work_stays(headrace, outdated):
    tiny, lost = outdated
    work = Store(tiny.url).work_folder("clean", "a" * 32)
    work.write_bytes("output/half.arrow", b"half")
    facts = headrace("gc", "--dry-run", "--json", *tiny.overrides).json
    assert {each["key"] for each in facts["garbage"]} == lost
    headrace("gc", "--keep-work-days", "0", *tiny.overrides)
    assert not work.files()


def test_a_killed_gc_leaves_nothing_that_looks_whole(outdated, monkeypatch):
    """Killed after any deletion of one path: what is left has either all its files, or no manifest."""
    tiny, lost = outdated
    store = Store(tiny.url)
    garbage = find_garbage(store, keep_runs=0, keep_work_days=7)
    whole = Folder.delete
    for survived in range(2 * len(garbage)):
        calls = iter(range(survived))

        def delete(folder, name="", calls=calls):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            whole(folder, name)

        monkeypatch.setattr(Folder, "delete", delete)
        with pytest.raises(KeyboardInterrupt):
            delete_garbage(garbage)
        monkeypatch.setattr(Folder, "delete", whole)
        for artifact in store.artifacts():
            names = {entry.name for entry in artifact.folder.files()}
            assert {file.name for file in artifact.manifest.files} <= names
    delete_garbage(garbage)
    assert not keys(tiny) & lost


def test_a_commit_cut_short_is_not_garbage(make_tiny, monkeypatch):
    """Its files lie half among the artifacts, where the next run will look for them."""
    tiny = make_tiny()
    tiny.build(["dedup"])
    move = Folder.move_file
    moved = []

    def killed(folder, name, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(name)
        move(folder, name, target)

    monkeypatch.setattr(Folder, "move_file", killed)
    with pytest.raises(KeyboardInterrupt):
        tiny.build(["split"])
    monkeypatch.setattr(Folder, "move_file", move)
    store = Store(tiny.url)
    ((stage, key),) = [(stage, key) for stage in store.root.child("work").folders()
                       for key in store.root.child(f"work/{stage}").folders()]  # fmt: skip
    assert find_garbage(store, keep_runs=0, keep_work_days=7) == []
    delete_garbage(find_garbage(store, keep_runs=0, keep_work_days=7))
    artifact = store.recover(stage, key)
    assert {file.name for file in artifact.manifest.files} <= {
        entry.name for entry in artifact.folder.files()
    }


def test_what_it_does_not_take_is_refused(look):
    assert "takes no node" in look("gc", "clean").error()
    assert "--keep-runs is -1" in look("gc", "--keep-runs", "-1").error()
    assert "--keep-work-days is -1" in look("gc", "--keep-work-days", "-1").error()
