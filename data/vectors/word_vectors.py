"""Word vectors and the two files that hold them: `words.arrow` and `vectors.safetensors`.

The same vectors give the same bytes. A word is a token as its tokenizer's vocabulary spells it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from data.errors import DataError
from data.ipc import BatchWriter, batches_of, check_columns, open_batches

Matrix = NDArray[np.float32]

FORMAT_VERSION = "1"
WORDS_FILE = "words.arrow"
TENSORS_FILE = "vectors.safetensors"
WORD_SCHEMA = pa.schema([("word", pa.string()), ("count", pa.int64())])


@dataclass(frozen=True)
class Subwords:
    """What fastText has beside the vectors (Bojanowski et al. 2017, arXiv:1607.04606, section 3.2)."""

    words: Matrix
    "[num_words, width]: of the words themselves, without their n-grams."
    ngrams: Matrix
    "[num_buckets, width]: of the character n-grams that fall into each bucket."
    min_n: int
    "Characters of the shortest n-gram; `<` and `>` around a word count."
    max_n: int
    "Characters of the longest."

    def vector(self, word: str) -> Matrix | None:
        """[width]: the mean of its n-grams', for a word that has none of its own; None where it has no n-gram."""
        from gensim.models.fasttext import ft_ngram_hashes

        buckets = ft_ngram_hashes(word, self.min_n, self.max_n, len(self.ngrams))
        return self.ngrams[buckets].mean(axis=0, dtype=np.float32) if buckets else None


@dataclass(frozen=True)
class WordVectors:
    """Row i is the vector of word i; the most frequent word comes first where the counts are known."""

    words: Sequence[str]
    counts: NDArray[np.int64]
    "[num_words]: how often each was seen; 0 where nobody knows."
    vectors: Matrix
    "[num_words, width]."
    subwords: Subwords | None = None
    "With these every word has a vector."

    def __post_init__(self) -> None:
        assert len(self.words) == len(self.counts) == len(self.vectors), "a count and a vector for each word"
        assert self.vectors.shape == (len(self.words), self.width), self.vectors.shape

    @property
    def width(self) -> int:
        return int(self.vectors.shape[1])

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each word; of one that is there twice the first."""
        return {word: row for row, word in reversed([*enumerate(self.words)])}

    def vector(self, word: str) -> Matrix | None:
        """[width]: its own, or that of its subwords; None where it has neither."""
        row = self.rows.get(word)
        if row is not None:
            return self.vectors[row]  # type: ignore[no-any-return]
        return self.subwords.vector(word) if self.subwords else None

    def save(self, folder: Path) -> None:
        """Write both files into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors, facts = {"vectors": self.vectors}, {"width": self.width, "min_n": 0, "max_n": 0}
        if self.subwords:
            tensors |= {"words": self.subwords.words, "ngrams": self.subwords.ngrams}
            facts |= {"min_n": self.subwords.min_n, "max_n": self.subwords.max_n}
        save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, folder / TENSORS_FILE)
        texts = {"format_version": FORMAT_VERSION} | {name: str(each) for name, each in facts.items()}
        schema = WORD_SCHEMA.with_metadata(dict(sorted(texts.items())))
        with BatchWriter(folder / WORDS_FILE, schema=schema, to_arrays=_to_arrays) as writer:
            for word, count in zip(self.words, self.counts.tolist(), strict=True):
                writer.write((word, count), num_bytes=len(word) + 16)

    @classmethod
    def load(cls, folder: Path) -> "WordVectors":
        """Raises DataError where the folder does not hold word vectors of this format, whole."""
        place = folder / WORDS_FILE
        reader = open_batches(place, kind="words")
        check_columns(reader, schema=WORD_SCHEMA, kind="words", place=place)
        facts = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
        tensors = load_file(folder / TENSORS_FILE)
        words, counts = [], [np.empty(0, np.int64)]
        for batch in batches_of(reader):
            words += batch.column("word").to_pylist()
            counts.append(batch.column("count").to_numpy())
        if facts.get("format_version") != FORMAT_VERSION or len(words) != len(tensors["vectors"]):
            raise DataError(
                f"these are not word vectors of format {FORMAT_VERSION}: {len(words)} words, "
                f"{len(tensors['vectors'])} vectors",
                where=str(folder),
                allowed=f"{WORDS_FILE} and {TENSORS_FILE}, written together",
                do="build the node that wrote them again",
            )
        subwords = None
        if "ngrams" in tensors:
            n = int(facts["min_n"]), int(facts["max_n"])
            subwords = Subwords(tensors["words"], tensors["ngrams"], *n)
        return cls(words, np.concatenate(counts), tensors["vectors"], subwords)


def _to_arrays(rows: list[tuple[str, int]]) -> list[pa.Array]:
    words, counts = zip(*rows, strict=True)
    return [pa.array(words, pa.string()), pa.array(counts, pa.int64())]
