from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from data.documents import Document
from data.files import STDLIB, list_files
from data.readers import read_file
from data.reading import ReadRules
from data.shards import TokenFormat, TokenRow, TokenShards, TokenWriter
from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerRules, train_tokenizer

# The same cases on every run; how long one takes says nothing on a shared machine.
settings.register_profile("headrace", deadline=None, derandomize=True)
settings.load_profile("headrace")

# Rows of a shard: the ids of each, and where there is a mask, (ids, mask).
Rows = Sequence[Sequence[int] | tuple[Sequence[int], Sequence[int]]]


@pytest.fixture(scope="session")
def stdlib_documents() -> list[Document]:
    """Some 40 modules of the standard library, about 1 MB."""
    files = [
        file
        for file in list_files([STDLIB])
        if file.name.startswith(("a", "c", "d")) and "/" not in file.name
    ]
    outcomes = [outcome for file in files for outcome in read_file(file, rules=ReadRules())]
    return [outcome for outcome in outcomes if isinstance(outcome, Document)]


@pytest.fixture(scope="session")
def tokenizer(stdlib_documents: list[Document]) -> Tokenizer:
    texts = [document.text for document in stdlib_documents[:15]]
    return train_tokenizer(texts, rules=TokenizerRules(vocab_size=1000))


@pytest.fixture
def write_shards(tmp_path: Path) -> Callable[..., TokenShards]:
    """Writes rows to one shard per argument; vocabulary of 1000, end of text 0."""

    def write(
        *shards: Rows, has_loss_mask: bool = False, vocab_size: int = 1000, folder: Path = tmp_path
    ) -> TokenShards:
        token_format = TokenFormat("hash", vocab_size, 0, has_loss_mask)
        paths = [folder / f"tokens-{k:05}.arrow" for k in range(len(shards))]
        for path, rows in zip(paths, shards, strict=True):
            with TokenWriter(path, token_format=token_format) as writer:
                for k, row in enumerate(rows):
                    ids, mask = row if has_loss_mask else (row, None)
                    mask = None if mask is None else np.array(mask, np.uint8)
                    name = f"{path.stem}/{k}"
                    writer.write(TokenRow(name, "source", 2 * len(ids), np.array(ids, np.uint32), mask))
        return TokenShards(paths)

    return write


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record batches of 64 bytes, so that a few rows already lie across several."""
    monkeypatch.setattr("data.ipc.BATCH_BYTES", 64)
