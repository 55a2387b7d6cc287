"""Which failures of ranks start a run again, and how many ranks it then asks for."""

import pytest

pytest.importorskip("ray.train.torch")

from ray.train import FailureConfig, ScalingConfig
from ray.train.v2._internal.execution.controller.state import ReschedulingState
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import NoopDecision
from ray.train.v2.api.exceptions import WorkerGroupError

from pipeline.dag.folder import open_folder
from pipeline.training import elastic, supervision
from pipeline.training.elastic import AsManyAsThereAre
from pipeline.training.failure import LeftError, as_rank_error
from pipeline.training.supervision import RestartLostRanks

RETRY, RAISE = FailureDecision.RETRY, FailureDecision.RAISE


def group_error(*errors):
    return WorkerGroupError("failed", dict(enumerate(errors)))


LOST = group_error(ConnectionError("gone"), as_rank_error(ConnectionResetError("by peer"), rank=1))
LEFT = group_error(as_rank_error(LeftError("drained"), rank=0), as_rank_error(ConnectionResetError(), rank=1))
WRONG = group_error(as_rank_error(ValueError("not finite"), rank=0))


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """Of an elastic run that may fail twice, on nodes a and b."""
    monkeypatch.setattr(supervision, "NODE_DEATH_SECONDS", 0.0)
    monkeypatch.setattr(supervision, "living_nodes", lambda: {"a", "b"})
    found = RestartLostRanks(FailureConfig(max_failures=2), scratch=open_folder(str(tmp_path)))
    found.nodes = {"a", "b"}
    return found


def save(tmp_path, step):
    folder = tmp_path / f"step-{step:08d}"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")


def test_ranks_that_are_lost_without_progress_end_the_run(policy):
    assert [policy.make_decision(LOST) for _ in range(3)] == [RETRY, RETRY, RAISE]


def test_progress_begins_the_count_again(policy, tmp_path):
    for step in range(5):
        save(tmp_path, step)
        assert [policy.make_decision(LOST) for _ in range(2)] == [RETRY, RETRY]
    assert policy.make_decision(LOST) is RAISE


def test_of_a_run_that_is_not_elastic_every_loss_counts(tmp_path):
    fixed = RestartLostRanks(FailureConfig(max_failures=1))
    save(tmp_path, 1)
    assert [fixed.make_decision(LOST) for _ in range(2)] == [RETRY, RAISE]


def test_lost_nodes_and_ranks_that_leave_do_not_count(policy, monkeypatch):
    monkeypatch.setattr(supervision, "living_nodes", lambda: {"a"})
    assert {policy.make_decision(LOST) for _ in range(9)} == {RETRY}
    monkeypatch.setattr(supervision, "living_nodes", lambda: {"a", "b"})
    assert {policy.make_decision(LEFT) for _ in range(9)} == {RETRY}
    assert [policy.make_decision(LOST) for _ in range(3)] == [RETRY, RETRY, RAISE]


def test_what_would_happen_again_ends_the_run_also_with_a_node_lost(policy, monkeypatch):
    monkeypatch.setattr(supervision, "living_nodes", lambda: {"a"})
    assert policy.make_decision(WRONG) is RAISE


class Silent:
    def send(self, event):
        pass


@pytest.mark.parametrize(("places", "size"), [(9, 8), (8, 8), (7, 4), (3, 2), (2, 2)])
def test_the_largest_world_size_that_has_places_is_asked_for(monkeypatch, places, size):
    monkeypatch.setattr(elastic, "num_places", lambda _per_worker: places)
    monkeypatch.setattr(elastic, "SETTLE_SECONDS", 0.0)
    scaling = AsManyAsThereAre(ScalingConfig(num_workers=(2, 8)), world_sizes=[8, 4, 2], channel=Silent())
    decision = scaling.make_decision_for_non_running_worker_group()
    assert (decision.num_workers, decision.resources_per_worker) == (size, {"CPU": 1})


def test_fewer_than_the_least_wait_and_fewer_than_the_most_wait_for_a_moment(monkeypatch):
    scaling = AsManyAsThereAre(ScalingConfig(num_workers=(2, 8)), world_sizes=[8, 4, 2], channel=Silent())
    for places in (0, 1, 7):
        monkeypatch.setattr(elastic, "num_places", lambda _per_worker, places=places: places)
        assert isinstance(scaling.make_decision_for_non_running_worker_group(), NoopDecision)


def test_what_could_not_be_placed_is_not_tried_again_at_once(monkeypatch):
    monkeypatch.setattr(elastic, "num_places", lambda _per_worker: 8)
    monkeypatch.setattr(elastic, "SETTLE_SECONDS", 0.0)
    scaling = AsManyAsThereAre(ScalingConfig(num_workers=(2, 8)), world_sizes=[8, 4, 2], channel=Silent())
    sizes = []
    for _ in range(4):
        sizes.append(scaling.make_decision_for_non_running_worker_group().num_workers)
        scaling.after_controller_state_update(None, ReschedulingState(training_failed_error=LOST))
    assert sizes == [8, 4, 2, 2]
    monkeypatch.setattr(elastic, "REFUSED_SECONDS", 0.0)
    assert scaling.make_decision_for_non_running_worker_group().num_workers == 8
