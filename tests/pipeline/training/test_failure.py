"""Out of the exceptions of several ranks, the first cause."""

import pickle

import pytest

from data.errors import DataError
from pipeline.errors import StageFailedError
from pipeline.training.failure import as_rank_error, first_cause


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def rank_error(error, rank):
    return pickle.loads(pickle.dumps(as_rank_error(raised(error), rank=rank)))


def test_a_cause_is_preferred_to_the_symptoms_it_has_on_other_ranks():
    failures = {
        0: rank_error(RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"), 0),
        1: rank_error(ValueError("shape [3] does not fit"), 1),
    }
    error = first_cause(failures)
    assert error.what == "ValueError: shape [3] does not fit"
    assert "rank 1" in error.where
    assert "test_failure.py" in error.where


def test_a_dead_rank_is_preferred_to_the_connections_it_left():
    failures = {
        0: rank_error(RuntimeError("Connection reset by peer"), 0),
        1: Exception("A worker health check failed.\nThe worker died unexpectedly: SIGKILL"),
    }
    assert "rank 1 was lost" in first_cause(failures).what


def test_of_two_causes_the_earlier_one():
    later, earlier = KeyError("later"), KeyError("earlier")
    second = rank_error(earlier, 1)
    first = rank_error(later, 0)
    assert "earlier" in first_cause({0: first, 1: second}).what


@pytest.mark.parametrize(
    ("error", "code"),
    [(StageFailedError("no", where="w", allowed="a", do="d"), 1), (DataError("no", where="w", do="d"), 3)],
)
def test_errors_in_four_parts_keep_them_and_their_exit_code(error, code):
    found = first_cause({2: rank_error(error, 2)})
    assert (found.what, found.do, found.exit_code) == ("no", "d", code)
    assert found.where == "w (rank 2)"


def test_no_memory_suggests_less():
    error = first_cause({0: rank_error(RuntimeError("CUDA out of memory. Tried to allocate"), 0)})
    assert "micro_batch_size" in error.do
