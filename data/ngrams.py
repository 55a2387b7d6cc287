"""N-grams of a text as 64-bit hashes: of words, or of characters where the script puts no space between words.

Case, punctuation, symbols and white space do not count, and compatibility forms (NFKC) are one: what is left are
words, runs of letters, marks, digits and underscores. A text is taken by characters where more than half of its
characters in words are of a script without spaces: Chinese, Japanese, Thai, Lao, Khmer, Burmese.

The hash of a word is a polynomial over random 64-bit values of its characters, that of an n-gram one over the hashes
of its words, mixed; all modulo 2**64 with odd factors, so that numpy does it without a Python object per word. Two
n-grams out of 10**8 meet with a probability of about 10**16 / 2**65, below one in a thousand.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from data.hashing import Hashes, mix64
from data.scripts import UNSPACED_RANGES

Places = NDArray[np.int64]

PIECE = (
    1 << 14
)  # characters hashed at once, so that the arrays stay in the processor's cache; longer words are cut
CHARACTER_FACTOR = 0xD1342543DE82EF95  # odd: multiplication by it can be undone
NGRAM_FACTOR = 0xAF251AF3B0F025B5
NOT_IN_WORDS, SPACED, UNSPACED = range(3)
# Unicode's categories of letters, marks and numbers
WORD_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No"})


@dataclass(frozen=True)
class Units:
    """A text as the words, or the characters, that its n-grams are made of; U of them."""

    text: str
    "The text as it is compared: NFKC, lower case."
    hashes: Hashes  # [U]
    starts: Places  # [U], characters of `text`
    ends: Places  # [U]
    are_words: bool

    def width(self, words: int, characters: int) -> int:
        """Units of an n-gram; a text that is shorter has one n-gram, of all of it."""
        return min(words if self.are_words else characters, len(self.hashes))

    def ngrams(self, *, words: int, characters: int) -> Hashes:
        """The hash of each n-gram in order, [max(U - n, 0) + 1]; none where there is no unit."""
        width = self.width(words, characters)
        if not width:
            return self.hashes
        count = len(self.hashes) - width + 1
        total = self.hashes[:count].copy()
        for place in range(1, width):
            total *= np.uint64(NGRAM_FACTOR)
            total += self.hashes[place : place + count]
        return mix64(total)

    def ngram_text(self, index: int, *, words: int, characters: int) -> str:
        """What n-gram number `index` says."""
        last = index + self.width(words, characters) - 1
        return self.text[self.starts[index] : self.ends[last]]


def units_of(text: str) -> Units:
    """A text as words, or as characters where its script has no spaces."""
    text = (text if text.isascii() else unicodedata.normalize("NFKC", text)).lower()
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.intp)
    kinds = _kinds().take(codes)
    if not text.isascii() and 2 * np.count_nonzero(kinds == UNSPACED) > np.count_nonzero(kinds):
        starts = np.flatnonzero(kinds)
        return Units(text, _letters().take(codes[starts]), starts, starts + 1, are_words=False)
    in_word = np.zeros(len(kinds) + 2, np.bool_)  # none before the first and after the last character
    np.not_equal(kinds, NOT_IN_WORDS, out=in_word[1:-1])
    edges = np.flatnonzero(in_word[1:] != in_word[:-1])
    starts, ends = edges[0::2], edges[1::2]
    return Units(text, _word_hashes(codes, starts, ends), starts, ends, are_words=True)


def _word_hashes(codes: Places, starts: Places, ends: Places) -> Hashes:
    """The hash of each word, [U]: the sum of letter[i] * factor**i over its characters, at most the first PIECE."""
    powers, inverses = _powers()
    hashes = np.empty(len(starts), np.uint64)
    low = 0
    while low < len(starts):
        first = int(starts[low])
        high = max(low + 1, int(np.searchsorted(ends, first + PIECE, side="right")))
        letters = _letters().take(codes[first : min(int(ends[high - 1]), first + PIECE)])
        begins = starts[low:high] - first
        sums = np.add.reduceat(letters * powers[: len(letters)], begins)
        hashes[low:high] = sums * inverses[begins]
        low = high
    return hashes


@cache
def _kinds() -> NDArray[np.uint8]:
    """Of every code point, what it is to words."""
    categories = map(unicodedata.category, map(chr, range(0x110000)))
    kinds = np.fromiter(map(WORD_CATEGORIES.__contains__, categories), np.uint8, 0x110000)
    kinds[ord("_")] = SPACED
    for first, last in UNSPACED_RANGES:
        kinds[first : last + 1] *= UNSPACED
    return kinds


@cache
def _letters() -> Hashes:
    """Of every code point a random value; 0 where it is in no word, so that it adds nothing to one."""
    return np.where(_kinds(), mix64(np.arange(1, 0x110001, dtype=np.uint64)), np.uint64(0))


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """The powers of the factor from the zeroth, and their inverses, [PIECE] each."""
    inverse = pow(CHARACTER_FACTOR, -1, 1 << 64)
    return _series(CHARACTER_FACTOR), _series(inverse)


def _series(factor: int) -> Hashes:
    factors = np.full(PIECE, factor, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)
