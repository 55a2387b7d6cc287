import pytest

from pipeline.dag.events import Status
from pipeline.dag.plan import Planner
from pipeline.errors import ConfigError, InputDataError


def statuses(plan):
    return {each.node: each.status for each in plan.nodes}


def test_a_new_recipe_runs_its_sources_and_waits_with_the_rest(toy):
    plan = toy.planner().plan()
    assert statuses(plan) == {"read": Status.RUN, "loud": Status.WAIT, "joined": Status.WAIT}
    assert plan["read"].reasons == ["never built"]
    assert plan["joined"].reasons == ["after read, loud"]


def test_a_finished_recipe_is_reused_whole(toy):
    toy.build()
    assert toy.planner().plan().is_finished


def test_a_changed_field_is_named_and_only_what_depends_on_it_runs(toy):
    toy.build()
    toy.stages["loud"].suffix = "!"
    plan = toy.planner().plan()
    assert statuses(plan) == {"read": Status.REUSE, "loud": Status.RUN, "joined": Status.WAIT}
    assert plan["loud"].reasons == ["suffix:  → !"]


def test_a_changed_version_and_changed_files_are_named(toy):
    toy.build()
    toy.file.write_text("three\n")
    assert toy.planner().plan()["read"].reasons == ["the files it reads have changed"]
    type(toy.stages["read"]).version = 2
    try:
        assert "version: 1 → 2" in toy.planner().plan()["read"].reasons
    finally:
        type(toy.stages["read"]).version = 1


def test_circumstance_changes_nothing(toy, tmp_path):
    toy.build()
    moved = tmp_path / "elsewhere.txt"
    moved.write_bytes(toy.file.read_bytes())
    toy.stages["read"].path = str(moved)
    toy.stages["loud"].noise = 7
    assert toy.planner().plan().is_finished


def test_equal_bytes_from_a_changed_stage_leave_what_follows_reused(toy):
    """Early cut-off: inputs enter by content."""
    toy.build()
    toy.file.write_text("ONE\nTWO\n")  # other bytes for `read`, the same for `loud`
    toy.build("loud")
    plan = toy.planner().plan(["loud"])
    assert statuses(plan) == {"read": Status.REUSE, "loud": Status.REUSE}
    toy.stages["extra"] = type(toy.stages["loud"])(inputs=type(toy.stages["loud"]).Inputs(lines="loud"))
    first = toy.build("extra")["extra"].manifest.key
    toy.file.write_text("one\nTwo\n")
    assert toy.build("extra")["extra"].manifest.key == first


def test_a_part_is_an_input_of_its_own(toy, toy_stages):
    toy.stages["part"] = toy_stages.Upper(inputs=toy_stages.Upper.Inputs(lines="loud/nowhere"))
    toy.build("loud")
    with pytest.raises(ConfigError) as caught:
        toy.planner().plan(["part"])
    assert 'no part "nowhere"' in caught.value.what


def test_an_artifact_changed_by_hand_is_found_and_nothing_is_lost(toy):
    artifact = toy.build()["loud"]
    file = artifact.folder.local() / "lines.txt"
    before = file.read_bytes()
    file.write_bytes(b"altered")
    with pytest.raises(InputDataError, match="was changed") as caught:
        toy.planner().plan()
    assert caught.value.exit_code == 3
    assert str(file) in caught.value.where
    file.write_bytes(before)
    assert toy.planner().plan().is_finished


def test_a_missing_file_of_an_artifact_is_found(toy):
    artifact = toy.build()["loud"]
    (artifact.folder.local() / "lines.txt").unlink()
    with pytest.raises(InputDataError, match="is missing"):
        toy.planner().plan()


def test_a_missing_file_outside_is_input_data_that_is_wrong(toy):
    toy.file.unlink()
    with pytest.raises(InputDataError) as caught:
        toy.planner().plan()
    assert str(toy.file) in caught.value.where


def test_a_pin_stands_in_for_its_node(toy):
    artifact = toy.build()["loud"]
    toy.stages["loud"].suffix = "!"
    toy.file.write_text("other")
    plan = toy.planner(pins={"loud": artifact}).plan(["loud"])
    assert plan["loud"].status is Status.PINNED


@pytest.mark.parametrize(("node", "what"), [("lod", 'no node "lod"'), ("joined", "gives joined")])
def test_a_wrong_pin_is_refused(toy, node, what):
    artifact = toy.build()["loud"]
    with pytest.raises(ConfigError) as caught:
        toy.planner(pins={node: artifact})
    assert what in caught.value.what


def test_a_read_only_look_at_a_store_works(toy, monkeypatch):
    toy.build()
    monkeypatch.setattr("pipeline.dag.plan._memory_path", lambda _: toy.file / "no" / "folder")
    assert isinstance(toy.planner(), Planner)
    assert toy.planner().plan().is_finished
