import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import DOCUMENT_SCHEMA
from data.profile import EMPTY_BUCKET, Profile, bucket_start, source_group


def batch_of(texts, sources=None):
    sources = sources or ["a/b.txt"] * len(texts)
    rows = [
        {"id": str(k), "text": text, "source": source, "row": k, "metadata": ""}
        for k, (text, source) in enumerate(zip(texts, sources, strict=True))
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DOCUMENT_SCHEMA)


@given(texts=st.lists(st.text(max_size=300), min_size=1, max_size=30))
def test_rows_and_characters_are_exact_and_every_row_has_a_bucket(texts):
    profile = Profile()
    profile.add(batch_of(texts), kind="documents")
    assert (profile.num_rows, profile.total_length) == (len(texts), sum(map(len, texts)))
    assert profile.buckets.total() == len(texts)
    for text in texts:
        fitting = [b for b in profile.buckets if bucket_start(b) <= len(text) < bucket_start(b + 1)]
        assert fitting or (not text and EMPTY_BUCKET in profile.buckets)


def test_profiles_of_shards_add_up_to_that_of_the_whole():
    texts, sources = ["x" * n for n in range(1, 40)], [f"{k % 3}/f.txt" for k in range(39)]
    whole = Profile()
    whole.add(batch_of(texts, sources), kind="documents")
    parts = []
    for begin in range(0, 39, 13):
        part = Profile()
        part.add(batch_of(texts[begin : begin + 13], sources[begin : begin + 13]), kind="documents")
        parts.append(part.to_json())
    assert Profile.merged(parts) == whole


def test_a_quantile_is_at_most_a_fifth_off():
    profile = Profile()
    profile.add(batch_of(["x" * n for n in range(1, 1001)]), kind="documents")
    for fraction in (0.1, 0.5, 0.9, 0.99):
        assert profile.quantile(fraction) == pytest.approx(1000 * fraction, rel=0.2)
    assert Profile().quantile(0.5) == 0


@pytest.mark.parametrize(
    ("source", "group"), [("json/decoder.py", "json/"), ("notes.txt", "*.txt"), ("README", "README")]
)
def test_sources_are_grouped_by_folder_or_suffix(source, group):
    assert source_group(source) == group
