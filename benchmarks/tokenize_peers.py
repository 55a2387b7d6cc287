"""What `bench_tokenize.py` measures against: datatrove, `datasets`, and bare loops over the encoders themselves.

Each goes through some shards of documents in one worker process, keeps its ids for a comparison where that is asked
for, and returns how many there are; the end-of-text id of each document counts.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.documents import document_batches
from data.tokenize import one_thread
from data.tokenizer import Tokenizer

EOS = "<|endoftext|>"
Peer = Callable[[Path, Sequence[Path], Path, int], int]


def run_datatrove(tokenizer: Path, shards: Sequence[Path], folder: Path, rank: int) -> int:
    from datatrove.data import Document
    from datatrove.pipeline.tokens import DocumentTokenizer

    step = DocumentTokenizer(
        str(folder / f"datatrove-{rank}"),
        str(tokenizer / "tokenizer.json"),
        eos_token=EOS,
        shuffle_documents=False,
        save_final_metadata=False,
        batch_size=1000,
    )
    step.run((Document(text=text, id=name) for name, text in texts_of(shards)), rank=0)
    (written,) = (folder / f"datatrove-{rank}").glob("*.ds")
    _keep(folder / f"datatrove-{rank}.npy", lambda: np.fromfile(written, dtype=np.uint16))
    return written.stat().st_size // 2


def run_datasets(tokenizer: Path, shards: Sequence[Path], folder: Path, rank: int) -> int:
    import datasets
    import tokenizers

    datasets.disable_progress_bars()
    reference = tokenizers.Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    end = reference.token_to_id(EOS)
    table = pa.table({"text": [text for _, text in texts_of(shards)]})

    def encode(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[*each.ids, end] for each in reference.encode_batch(rows["text"])]}

    features = datasets.Features({"input_ids": datasets.Sequence(datasets.Value("uint16"))})
    made = datasets.Dataset(table).map(
        encode,
        batched=True,
        remove_columns=["text"],
        features=features,
        cache_file_name=str(folder / f"datasets-{rank}-{time.monotonic_ns()}.arrow"),
    )
    column = made.data.column("input_ids").combine_chunks()
    _keep(folder / f"datasets-{rank}.npy", lambda: column.flatten().to_numpy())
    return len(column.flatten())


def run_bare(tokenizer: Path, shards: Sequence[Path], folder: Path, rank: int) -> int:
    """tiktoken, or `tokenizers` on one thread: texts in memory, ids as lists, nothing read or written meanwhile."""
    texts, encode, end = _warm(tokenizer, tuple(shards))
    with one_thread():
        total = sum(len(encode(text)) + 1 for text in texts)
        if rank >= 0:
            place = folder / f"bare-{rank}.npy"
            _keep(place, lambda: np.concatenate([[*encode(text), end] for text in texts]))
    return total


@cache
def _warm(tokenizer: Path, shards: tuple[Path, ...]) -> tuple[list[str], Callable[[str], list[int]], int]:
    """Texts and encoder, made in the first round, which does not count."""
    encode, end = _encoder(tokenizer)
    return [text for _, text in texts_of(shards)], encode, end


@cache
def _encoder(tokenizer: Path) -> tuple[Callable[[str], list[int]], int]:
    loaded = Tokenizer.load(tokenizer)
    if loaded.encoder == "tiktoken":
        return loaded._fast.encode_ordinary, loaded.eos_id  # noqa: SLF001 - tiktoken itself is what is wanted
    reference = loaded._reference  # noqa: SLF001 - as is `tokenizers`
    return lambda text: reference.encode(text, add_special_tokens=False).ids, loaded.eos_id


def texts_of(shards: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Ids and texts."""
    for shard in shards:
        for batch in document_batches(shard):
            yield from zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)


def _keep(place: Path, ids: Callable[[], Any]) -> None:
    """For the comparison of ids, once."""
    if not place.exists():
        np.save(place, ids())
