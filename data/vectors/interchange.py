"""Word vectors in the formats of others: word2vec's text and binary, GloVe's text, fastText's own.

Text: a line `NUM_WORDS WIDTH`, then a line for each word with its numbers; GloVe leaves the first line out. Binary: the
same first line, then for each word its UTF-8 bytes, a space, and WIDTH little-endian float32.
"""

import struct
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data.errors import DataError
from data.vectors.word_vectors import Matrix, Subwords, WordVectors

HEADER_FIELDS = 2
LONGEST_WORD_BYTES = 1 << 16
FASTTEXT_MAGIC = (793712314).to_bytes(4, "little")
FLOAT = np.dtype("<f4")


class VectorFormat(Enum):
    """How a file holds word vectors."""

    auto = "auto"  # reading only: by what the file begins with
    text = "text"  # .vec and .txt; with or without a first line of sizes
    binary = "binary"  # word2vec's .bin
    fasttext = "fasttext"  # fastText's .bin, with its subwords


def write_vectors(vectors: WordVectors, path: Path, *, form: VectorFormat) -> None:
    """Write one file; in `text` numbers have as many digits as give the same float32 back.

    Raises:
        DataError: a word cannot be written, or there are no subwords to write for fastText.
    """
    _check_words(vectors, path)
    if form is VectorFormat.fasttext:
        _write_fasttext(vectors, path)
        return
    with path.open("wb") as sink:
        sink.write(f"{len(vectors.words)} {vectors.width}\n".encode())
        for word, row in zip(vectors.words, vectors.vectors, strict=True):
            if form is VectorFormat.binary:
                sink.write(word.encode() + b" " + row.astype(FLOAT).tobytes() + b"\n")
            else:
                sink.write(f"{word} {' '.join(map(str, row))}\n".encode())


def read_vectors(path: Path, *, form: VectorFormat = VectorFormat.auto) -> WordVectors:
    """The vectors of a file; counts are 0 save for fastText's. Of a word that is there twice, the first row counts.

    Raises:
        DataError: the file is not whole or not of the format, with the line or the word where it is not.
    """
    form = found_format(path) if form is VectorFormat.auto else form
    if form is VectorFormat.fasttext:
        return _read_fasttext(path)
    with path.open("rb") as source:
        rows = _binary_rows(source, path) if form is VectorFormat.binary else _text_rows(source, path)
        words, vectors = [], []
        for word, row in rows:
            words.append(word)
            vectors.append(row)
    if not words:
        raise _wrong(path, "it holds no word", "")
    return WordVectors(words, np.zeros(len(words), np.int64), np.stack(vectors))


def found_format(path: Path) -> VectorFormat:
    """By the first bytes: fastText's mark, or a header with numbers behind the first word that no text has."""
    with path.open("rb") as source:
        if source.read(len(FASTTEXT_MAGIC)) == FASTTEXT_MAGIC:
            return VectorFormat.fasttext
        source.seek(0)
        first, second = source.readline(1 << 20), source.read(1 << 16)
    fields = first.split()
    if len(fields) == HEADER_FIELDS and all(field.isdigit() for field in fields):
        width = int(fields[1])
        after = second.lstrip(b"\n").partition(b" ")[2].split(b"\n")[0].split(b" ")
        if not all(_is_number(each) for each in after[: min(width, 16)]):
            return VectorFormat.binary
    return VectorFormat.text


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _text_rows(source: BinaryIO, path: Path) -> Iterator[tuple[str, Matrix]]:
    expected, width, number = None, None, 0
    for number, line in enumerate(source, 1):
        fields = line.rstrip(b"\r\n ").split(b" ")
        if number == 1 and len(fields) == HEADER_FIELDS and all(field.isdigit() for field in fields):
            expected, width = int(fields[0]), int(fields[1])
            continue
        width = width or len(fields) - 1
        try:
            word, row = b" ".join(fields[:-width]).decode(), np.array(fields[-width:], dtype=np.float32)
        except ValueError as error:
            raise _wrong(path, str(error), f", line {number}") from error
        if not word:
            raise _wrong(
                path, f"{len(fields)} fields, and a word with {width} numbers wanted", f", line {number}"
            )
        yield word, row
    if expected is not None and number - 1 != expected:
        raise _wrong(path, f"{number - 1} words, and its first line says {expected}", "")


def _binary_rows(source: BinaryIO, path: Path) -> Iterator[tuple[str, Matrix]]:
    header = source.readline(64).split()
    if len(header) != HEADER_FIELDS or not all(field.isdigit() for field in header):
        raise _wrong(path, "its first line does not say NUM_WORDS WIDTH", "")
    num_words, width = map(int, header)
    for number in range(num_words):
        word = bytearray()
        while (byte := source.read(1)) != b" ":
            if not byte or len(word) > LONGEST_WORD_BYTES:
                raise _wrong(path, f"it ends within word {number} of {num_words}", "")
            word += byte
        content = source.read(width * FLOAT.itemsize)
        if len(content) < width * FLOAT.itemsize:
            raise _wrong(path, f"it ends within the vector of word {number} of {num_words}", "")
        try:
            yield bytes(word).lstrip(b"\n").decode(), np.frombuffer(content, FLOAT).astype(np.float32)
        except UnicodeDecodeError as error:
            raise _wrong(path, f"word {number} is not UTF-8", "") from error


def _read_fasttext(path: Path) -> WordVectors:
    """As gensim reads it: the vectors of `fasttext` itself, with the subwords that make any other word's."""
    from gensim.models.fasttext import load_facebook_vectors

    try:
        found = load_facebook_vectors(str(path))
    except (ValueError, AssertionError, EOFError, OSError, NotImplementedError, struct.error) as error:
        raise _wrong(path, f"gensim cannot read it: {error}", "") from error
    counts = np.array([found.get_vecattr(word, "count") for word in found.index_to_key], np.int64)
    own, ngrams = (each.astype(np.float32) for each in (found.vectors_vocab, found.vectors_ngrams))
    subwords = Subwords(own, ngrams, found.min_n, found.max_n) if len(ngrams) else None
    return WordVectors(list(found.index_to_key), counts, found.vectors.astype(np.float32), subwords)


def _write_fasttext(vectors: WordVectors, path: Path) -> None:
    """With an output layer of zeros: it has a part in training on, not in any vector."""
    from gensim.models import FastText
    from gensim.models.fasttext import save_facebook_model

    subwords = vectors.subwords
    if subwords is None:
        raise DataError(
            "these vectors have no subwords, which fastText's format is made for",
            where=str(path),
            allowed="text, binary",
            do="choose one of these, or learn the vectors with algorithm fasttext",
        )
    n = {"min_n": subwords.min_n, "max_n": subwords.max_n, "bucket": 1}
    model = FastText(vector_size=vectors.width, sg=1, min_count=1, sorted_vocab=0, **n)
    counts = dict(zip(vectors.words, vectors.counts.tolist(), strict=True))
    model.build_vocab_from_freq(counts)
    model.corpus_total_words = sum(counts.values())
    model.wv.bucket = len(subwords.ngrams)
    model.wv.vectors_vocab, model.wv.vectors_ngrams = subwords.words, subwords.ngrams
    save_facebook_model(model, str(path))


def _check_words(vectors: WordVectors, path: Path) -> None:
    for word in vectors.words:
        if not word or any(each in word for each in " \n\r\0"):
            raise DataError(
                f"the word {word!r} cannot be written: its format parts words by white space",
                where=str(path),
                allowed="words without spaces, line ends and NUL",
                do="learn vectors of a tokenizer whose tokens have none",
            )


def _wrong(path: Path, what: str, place: str) -> DataError:
    return DataError(
        f"these word vectors cannot be read: {what}",
        where=f"{path}{place}",
        allowed="word2vec's text or binary format, GloVe's text, or fastText's .bin",
        do="fetch the file again, or name its format",
    )
