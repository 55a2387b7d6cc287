from hypothesis import given
from hypothesis import strategies as st

from data.ids import count_repeated, id_hashes


@given(st.lists(st.lists(st.text(max_size=2), max_size=30), max_size=5), st.integers(1, 50))
def test_repeated_ids_are_counted_whatever_the_shards_and_the_passes(shards, at_once):
    packed = {f"{number}": id_hashes(ids).tobytes() for number, ids in enumerate(shards)}
    everything = [each for ids in shards for each in ids]
    found = count_repeated(list(packed), read=packed.__getitem__, at_once=at_once)
    assert found == len(everything) - len(set(everything))
