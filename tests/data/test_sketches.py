import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.dedup.exact import DedupRules, hash_texts
from data.dedup.near import NearRules, band_keys, signatures
from data.dedup.sketches import Sketches, read_keys, write_sketches
from data.documents import Document, DocumentWriter, document_batches

NEAR = NearRules(ngram_words=1, num_bands=3, num_rows=2)


def shard(texts: list[str]) -> tuple[bytes, bytes]:
    """The sketches and the keys of a shard of these texts."""
    documents, sketches, keys = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with DocumentWriter(documents) as writer:
        for row, text in enumerate(texts):
            writer.write(Document(f"{text}-{row}", text, "source", row))
    documents.seek(0)
    num = write_sketches(document_batches(documents), sketches, keys, rules=DedupRules(), near=NEAR)
    assert num == len(texts)
    return sketches.getvalue(), keys.getvalue()


def keys_of(keys: bytes, band: int, part: int, bits: int):
    return read_keys(io.BytesIO(keys), band=band, num_bands=4, part=part, num_part_bits=bits)


@pytest.mark.usefixtures("small_batches")
@given(st.lists(st.text("ab ?", min_size=1, max_size=12), max_size=30), st.integers(0, 3))
def test_the_ranges_of_a_band_hold_each_document_with_a_word_once(texts, bits):
    _, keys = shard(texts)
    for band in range(4):
        expected = (
            hash_texts(texts, rules=DedupRules())[:, 0]
            if band == 0
            else band_keys(signatures(texts, rules=NEAR), rules=NEAR)[:, band - 1]
        )
        found = {}
        for part in range(1 << bits):
            key, _, row = keys_of(keys, band, part, bits)
            assert (key >> np.uint64(64 - bits) == part).all() if bits else True
            found |= dict(zip(row.tolist(), key.tolist(), strict=True))
        wanted = [row for row, text in enumerate(texts) if band == 0 or {*text} & {*"ab"}]
        assert sorted(found) == wanted
        assert all(found[row] == expected[row] for row in wanted)


@pytest.mark.usefixtures("small_batches")
@given(st.data())
def test_sketches_are_taken_in_any_order_over_shards(data):
    shards = data.draw(
        st.lists(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1), min_size=1, max_size=3)
    )
    numbers = [
        shard_number << 32 | row for shard_number, texts in enumerate(shards) for row in range(len(texts))
    ]
    wanted = np.array(data.draw(st.lists(st.sampled_from(numbers), max_size=20)), np.uint64)
    files = [shard(texts)[0] for texts in shards]
    sketches = Sketches(lambda number: io.BytesIO(files[number]))
    texts = [shards[number >> 32][number & 0xFFFFFFFF] for number in wanted.tolist()]
    table = sketches.take(wanted, ["id", "length"])
    assert [each.partition("-")[0] for each in table["id"].to_pylist()] == texts
    assert table["length"].to_pylist() == [len(text) for text in texts]
    assert np.array_equal(sketches.signatures(wanted), signatures(texts, rules=NEAR))
    assert sketches.similarity(wanted, wanted).tolist() == [1] * len(wanted)
