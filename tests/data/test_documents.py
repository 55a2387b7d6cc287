import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import (
    DOCUMENT_SCHEMA,
    Document,
    DocumentWriter,
    count_documents,
    document_batches,
    read_documents,
)
from data.errors import DataError
from data.examples import Example, ExampleWriter

documents = st.lists(
    st.builds(
        Document,
        id=st.text(),
        text=st.text(),
        source=st.text(),
        row=st.integers(0, 2**63 - 1),
        metadata=st.text(),
    ),
    max_size=20,
)


def written(rows: list[Document]) -> bytes:
    sink = io.BytesIO()
    with DocumentWriter(sink) as writer:
        for row in rows:
            writer.write(row)
    return sink.getvalue()


@given(documents)
def test_documents_come_back_as_they_were_and_the_same_rows_give_the_same_bytes(rows):
    file = written(rows)
    assert list(read_documents(io.BytesIO(file))) == rows
    assert count_documents(io.BytesIO(file)) == len(rows)
    assert written(rows) == file


def test_a_path_and_an_open_file_hold_the_same(tmp_path):
    rows = [Document(str(k), "text " * k, "s", k) for k in range(50)]
    path = tmp_path / "documents-00000.arrow"
    with DocumentWriter(path) as writer:
        for row in rows:
            writer.write(row)
    assert (writer.num_rows, writer.num_bytes) == (50, sum(len(row.text) for row in rows))
    assert path.read_bytes() == written(rows)
    assert list(read_documents(path)) == rows


def test_memory_is_bounded_by_record_batches_and_not_by_the_file():
    text = "x" * 1_500_000
    file = written([Document(str(k), text, "s") for k in range(8)])
    assert [batch.num_rows for batch in document_batches(io.BytesIO(file))] == [2, 2, 2, 2]


def test_one_document_larger_than_a_batch_is_whole():
    rows = [Document("small", "x", "s"), Document("large", "y" * 9_000_000, "s"), Document("after", "z", "s")]
    assert list(read_documents(io.BytesIO(written(rows)))) == rows


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "examples.arrow"
    with ExampleWriter(path) as writer:
        writer.write(Example("a", "s", "p", "r"))
    with pytest.raises(DataError) as caught:
        list(read_documents(path))
    assert caught.value.where == str(path)
    assert caught.value.allowed == ", ".join(f"{field.name} {field.type}" for field in DOCUMENT_SCHEMA)
