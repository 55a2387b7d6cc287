"""Which word vector belongs to which token: what a model's embedding begins from."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from data.tokenizer import Tokenizer
from data.vectors.corpus import control_ids
from data.vectors.word_vectors import Matrix, WordVectors

CONTINUED = "##"
SPACE_MARK = "\u2581"
NOT_TEXT = "\ufffd"


class Match(Enum):
    """How a token came to its vector."""

    same = "same"  # a word is spelled as the token is in the vocabulary
    as_word = "as_word"  # a word is what the token says, without the space before it
    by_subwords = "by_subwords"  # no word is, and fastText's n-grams gave it one
    none = "none"  # it has none
    control = "control"  # it is no word


@dataclass(frozen=True)
class Matched:
    """The tokens that have vectors."""

    ids: NDArray[np.int64]
    "[num], ascending."
    vectors: Matrix
    "[num, width]."
    counts: dict[str, int]
    "Tokens of the vocabulary by how they were matched; they add up to its size."


def match_tokens(tokenizer: Tokenizer, vectors: WordVectors) -> Matched:
    """A vector for each token that has one; case counts, and a piece within a word (`##ing`) is no word."""
    control, rows, subwords = set(control_ids(tokenizer)), vectors.rows, vectors.subwords
    found: dict[int, Matrix] = {}
    counts: Counter[str] = Counter({each.value: 0 for each in Match})
    for id_, token in enumerate(tokenizer.tokens()):
        text = readable(tokenizer, id_, token)
        if id_ in control or not token:
            how, vector = Match.control, None
        elif token in rows:
            how, vector = Match.same, vectors.vectors[rows[token]]
        elif text in rows and not token.startswith(CONTINUED):
            how, vector = Match.as_word, vectors.vectors[rows[text]]
        else:
            how, vector = Match.by_subwords, subwords.vector(text) if subwords and text else None
            how = Match.none if vector is None else how
        counts[how.value] += 1
        if vector is not None:
            found[id_] = vector
    stacked = np.stack([*found.values()]) if found else np.empty((0, vectors.width), np.float32)
    return Matched(np.array([*found], np.int64), stacked, dict(counts))


def readable(tokenizer: Tokenizer, id_: int, token: str) -> str:
    """What a token says, without marks and spaces; empty where that is nothing, or bytes that are no text."""
    text = token[len(CONTINUED) :] if token.startswith(CONTINUED) else tokenizer.decode([id_])
    return "" if NOT_TEXT in text else text.replace(SPACE_MARK, " ").strip()
