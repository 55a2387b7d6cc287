"""Columns of texts that take the process with them: by what they unpack to, or by offsets that point elsewhere."""

import io
import resource
import subprocess
import sys
from decimal import Decimal
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.files import local_file
from data.readers import read_file
from data.readers.parts import pieces_of, read_piece, spans_of, survey
from data.reading import ReadRules, Reason
from tests.data.outcomes import kinds, outcomes

ROOT = Path(__file__).parents[2]
NEW = {"f.arrow": pa.ipc.new_file, "f.arrows": pa.ipc.new_stream}


def written(name: str, table: pa.Table, at_once: int = 2, compression: str | None = None) -> bytes:
    sink, options = io.BytesIO(), pa.ipc.IpcWriteOptions(compression=compression)
    with NEW[name](sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=at_once)
    return sink.getvalue()


def in_parts(path: Path, rules: ReadRules) -> list:
    file = local_file(path)
    spans = spans_of([file], rules=rules, part_bytes=1)
    counts = [survey(span, rules=rules, part_bytes=1) for span in spans]
    return [item for piece in pieces_of([file], spans, counts) for item in read_piece(piece, rules=rules)]


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("is_dictionary", [False, True])
def test_a_batch_that_inflates_beyond_the_limit_is_not_unpacked(tmp_path, name, compression, is_dictionary):
    texts = pa.array(["a", "b", "c" * 40_000_000, "d", "e"])
    table = pa.table({"text": texts.dictionary_encode() if is_dictionary else texts})
    content = written(name, table, compression=compression)
    (tmp_path / name).write_bytes(content)
    for rules in (ReadRules(max_inflation=100), ReadRules(max_inflation=100_000)):
        found = list(read_file(local_file(tmp_path / name), rules=rules))
        assert found == in_parts(tmp_path / name, rules)
        if rules.max_inflation == 100_000:
            assert kinds(found) == texts.to_pylist()
            continue
        (bomb,) = [item for item in found if getattr(item, "reason", None) is Reason.INFLATES]
        assert (
            "a record batch inflates to more than 100 times the file's bytes (rules.max_inflation)"
            in bomb.detail
        )
        rest = {"f.arrow": ["e"], "f.arrows": []}[name]  # of a stream, all that follows
        expected = ["a", "b", Reason.INFLATES, *rest]
        assert kinds(found) == ([Reason.INFLATES] if is_dictionary else expected)


@pytest.mark.parametrize("name", NEW)
def test_offsets_within_a_list_that_point_elsewhere_cost_their_batch(tmp_path, name):
    """What a batch takes in memory is asked before it is checked; `nbytes` would follow these offsets."""
    rows = pa.table({"text": ["a", "b", "c", "d"], "tags": [["x", "yy"], ["zzz"], ["u"], ["v", "w"]]})
    content = bytearray(written(name, rows))
    offsets = pa.array([0, 2, 3], pa.int32()).buffers()[1].to_pybytes()[:12]
    place = content.index(offsets)
    content[place + 4 : place + 12] = (1 << 30).to_bytes(4, "little") * 2
    (tmp_path / name).write_bytes(content)
    found = in_parts(tmp_path / name, ReadRules())
    assert kinds(found) == [Reason.CORRUPT_ARROW, "c", "d"]
    assert found == list(read_file(local_file(tmp_path / name), rules=ReadRules()))


def test_a_stream_of_the_other_endianness_is_read_in_one_piece(tmp_path):
    """A schema without the field says little; here the schema of a big-endian stream says so of our numbers."""
    content = written("f.arrows", pa.table({"text": ["a", "b", "c", "d"]}))
    schema = pa.ipc.read_message(content).metadata.to_pybytes()
    for place in range(content.index(schema), content.index(schema) + len(schema)):
        other = bytearray(content)
        other[place] ^= 1
        (tmp_path / "f.arrows").write_bytes(other)
        found = in_parts(tmp_path / "f.arrows", ReadRules())
        assert found == list(read_file(local_file(tmp_path / "f.arrows"), rules=ReadRules())), place


@pytest.mark.parametrize("name", ["f.parquet", *NEW])
def test_no_bit_of_a_file_loses_rows_without_a_word(name):
    """A footer may forget a batch, and a row group count too few of its rows."""
    table = pa.table({"text": [f"text {n}" for n in range(4)]})
    if name in NEW:
        content = bytearray(written(name, table))
    else:
        pq.write_table(
            table, sink := io.BytesIO(), row_group_size=2, write_statistics=False, store_schema=False
        )
        content = bytearray(sink.getvalue())
    for place, bit in product(range(len(content)), range(8)):
        content[place] ^= 1 << bit
        found = kinds(outcomes(bytes(content), name))
        assert len(found) == 4 or set(found) & set(Reason), (place, bit)
        content[place] ^= 1 << bit


def test_one_flipped_byte_of_a_page_with_a_checksum_is_never_silent():
    texts = [f"text {n}" for n in range(20)]
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(pa.table({"text": texts}), sink := io.BytesIO(), write_page_checksum=True, **options)
    content = bytearray(sink.getvalue())
    first, last = content.index(b"text 0"), content.index(b"text 19") + len(b"text 19")
    for place in range(first, last):
        content[place] ^= 1
        assert kinds(outcomes(bytes(content), "f.parquet")) == [Reason.CORRUPT_PARQUET], place
        content[place] ^= 1
    assert kinds(outcomes(bytes(content), "f.parquet")) == texts


@pytest.mark.parametrize("name", NEW)
def test_decimals_of_a_scale_that_cannot_be_cost_their_rows(name):
    price = pa.array([Decimal("1.5"), Decimal("2.5"), None], pa.decimal128(38, 37))
    content = written(name, pa.table({"text": ["a", "b", "c"], "price": price}), at_once=3)
    scale = (37).to_bytes(4, "little")
    assert content.count(scale) in (1, 2)  # a file has the schema twice
    for other in (2**31 - 1, -(2**31), 10**9):
        damaged = content.replace(scale, other.to_bytes(4, "little", signed=True))
        assert kinds(outcomes(damaged, name)) == [Reason.WRONG_TYPE, Reason.WRONG_TYPE, "c"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows"])
def test_no_damage_takes_the_process_with_it(kind, tmp_path):
    """Columns of every type, damaged, whole and in parts, in a process that may have 4 GiB and a minute."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    command = [sys.executable, "-m", "tests.data.damaging", kind, "600", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=limited)
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"{kind}, seed {last}: {done.returncode}\n{done.stderr}"
    assert last == ["600"]
