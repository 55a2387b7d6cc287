"""Folders that `datasets` saved, by the library itself."""

import json

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars

from data.documents import Document
from data.errors import DataError
from data.files import list_files
from data.readers import read_file
from data.reading import ReadRules

disable_progress_bars()


def dataset(first: int, num_rows: int) -> Dataset:
    numbers = range(first, first + num_rows)
    return Dataset.from_dict({"text": [f"row {k}" for k in numbers], "n": list(numbers)})


def read(folder) -> list[Document]:
    files = list_files([str(folder)])
    return [outcome for file in files for outcome in read_file(file, rules=ReadRules())]


def test_the_rows_of_a_saved_dataset_are_its_documents(tmp_path):
    dataset(0, 25).save_to_disk(tmp_path / "saved", num_shards=3)
    found = read(tmp_path / "saved")
    assert [document.text for document in found] == [f"row {k}" for k in range(25)]
    assert [json.loads(document.metadata) for document in found] == [{"n": k} for k in range(25)]
    assert found[0].id == "data-00000-of-00003.arrow#0"


def test_the_splits_of_a_saved_dataset_dict_are_folders(tmp_path):
    DatasetDict({"train": dataset(0, 5), "test": dataset(5, 2)}).save_to_disk(tmp_path / "saved")
    assert [(document.source.split("/")[0], document.text) for document in read(tmp_path / "saved")] == [
        *(("test", f"row {k}") for k in (5, 6)),
        *(("train", f"row {k}") for k in range(5)),
    ]


def test_a_cache_beside_the_rows_and_the_bookkeeping_are_left_out(tmp_path):
    dataset(0, 3).save_to_disk(tmp_path / "saved")
    cache = (tmp_path / "saved/data-00000-of-00001.arrow").read_bytes()
    (tmp_path / "saved/cache-0123456789abcdef.arrow").write_bytes(cache)
    (tmp_path / "state.json").write_text('{"text": "a corpus of its own"}')
    names = [file.name for file in list_files([str(tmp_path)])]
    assert names == ["saved/data-00000-of-00001.arrow", "state.json"]
    assert [
        file.name for file in list_files([str(tmp_path / "**/*.arrow"), str(tmp_path / "state.json")])
    ] == [
        "saved/cache-0123456789abcdef.arrow",  # a glob that names no bookkeeping takes what it says
        "saved/data-00000-of-00001.arrow",
        "state.json",
    ]


def test_a_saved_dataset_that_lacks_rows_is_an_error(tmp_path):
    dataset(0, 4).save_to_disk(tmp_path / "saved", num_shards=2)
    (tmp_path / "saved/data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"lacks 'data-00001-of-00002\.arrow'"):
        list_files([str(tmp_path)])
    (tmp_path / "saved/state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        list_files([str(tmp_path)])


def test_a_truncated_saved_stream_says_so(tmp_path):
    Dataset(pa.table({"text": [f"row {k}" for k in range(5000)]})).save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved/data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-9000])
    found = read(tmp_path / "saved")
    assert [item.text for item in found[:-1]] == [f"row {k}" for k in range(4000)]
    assert found[-1].reason.value == "corrupt_arrow"
