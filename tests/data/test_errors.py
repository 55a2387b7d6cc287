import pickle

from data.errors import DataError


def test_an_error_crosses_process_borders_with_its_four_parts():
    error = DataError("what", where="where it is", allowed="what may be", do="what to do")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.what, copy.where, copy.allowed, copy.do) == (
        "what",
        "where it is",
        "what may be",
        "what to do",
    )
    assert str(copy) == "what\nwhere: where it is\nallowed: what may be\ndo: what to do"
    assert copy.exit_code == 3
