"""Words and sentence ends, in scripts with spaces and without.

A text falls into pieces. White space parts them; a mark of punctuation is a piece of its own, save within words
(don't, well-known, 3.14, U.S., a/b, __init__, -v), and runs of full stops or hyphens stay together; so far this is what
the tokenizer of the Penn Treebank, FineWeb's first, does with English, but that contractions stay whole. In scripts
that put no spaces between words (Han, kana, Thai, Lao, Burmese, Khmer) one character with the marks it carries is one
piece.

A piece that is not a mark is a word. So a count of words is a count of characters in those scripts (Chinese and
Japanese have 1.5 to 2 to a dictionary's word, Thai about 4), their lengths say nothing and are left out of means,
and a sequence of n words is taken as one of 2n such characters.
"""

import re
from collections.abc import Callable, Mapping
from itertools import chain, compress
from typing import TypeVar

from data.filters.lazy import lazy
from data.scripts import UNSPACED_RANGES

Known = TypeVar("Known")

UNSPACED = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED_RANGES)
"As a character class."
_CARRIED = (
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3\u17dd"
    "\u3099\u309a"
)
SENTENCE_ENDS = (
    "!.?\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362\u1367\u1368"
    "\u166e\u1735\u1736\u17d4-\u17d6\u17d9\u17da\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b5a\u1b5b\u1b5e\u1b5f\u1b7d"
    "\u1b7e\u1c3b\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047-\u2049\u2e2e\u2e3c\u2e53\u2e54\u3002\ua4ff\ua60e\ua60f\ua6f3"
    "\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb\ufe52\ufe56\ufe57\uff01\uff0e"
    "\uff1f\uff61"
)
"Property Sentence_Terminal of Unicode's PropList.txt, the basic plane, and Khmer's; as a character class."
_INSIDE = r"*+/=\\^_|~"
_APART = (
    r"!-),\-.:;<>?@\[\]`{}\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7\u2010-\u2027\u2030-\u205e"
    r"\u3001-\u3003\u3008-\u3020\u3030\u30fb\u0e5a\u0e5b\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
    + SENTENCE_ENDS
)
"Marks that may be inside of a word, as in a/b and __init__, and those that are apart from it."
_WORD = rf"[^\s{_APART}{UNSPACED}]+"
_PIECES = re.compile(
    rf"\.{{2,}}|-{{2,}}|[.-]?{_WORD}(?:(?:[.'\u2019-]|[,:](?=[0-9])){_WORD})*"
    rf"|[{_APART}]|[{UNSPACED}][{_CARRIED}]*"
)
_MARKS = re.compile(rf"[{_APART}{_INSIDE}]+")
_UNSPACED = re.compile(rf"[{UNSPACED}]")
_UNSPACED_WORD = re.compile(rf"(?![{_APART}])[{UNSPACED}][{_CARRIED}]*")

_CLOSING = "\"'\u2019\u201d\u00bb)\\]\u300d\u300f\u3009\u300b\u3011\uff09"
_UNSPACED_ENDS = "\u3002\uff01\uff1f\uff0e\uff61"
# A run of marks ends a sentence before white space, and in scripts without spaces anywhere; one letter's stop does not.
_BOUNDARY = re.compile(
    rf"(?<![{SENTENCE_ENDS}\u2026])(?:(?<!\b[^\W\d_])\.|[\u2026{SENTENCE_ENDS[0]}{SENTENCE_ENDS[2:]}])"
    rf"[{SENTENCE_ENDS}\u2026]*+(?:[{_CLOSING}]*+(?=\s)|(?<=[{_UNSPACED_ENDS}])[{_CLOSING}]*+(?=.))"
)

ENDS_SENTENCE = frozenset(chr(code) for code in range(0x10000) if re.match(f"[{SENTENCE_ENDS}]", chr(code)))
MAX_REMEMBERED = 1 << 20
REMEMBERED_CHARACTERS = 48


def pieces_of(text: str) -> list[str]:
    """The text's words and marks, in order."""
    return _PIECES.findall(text)


def num_line_words(line: str) -> int:
    """Words of a line: what white space parts, but one character each in scripts without spaces."""
    num_words = len(line.split())
    if line.isascii() or not _UNSPACED.search(line):
        return num_words
    spaced, num_characters = _UNSPACED_WORD.subn(" ", line)
    return num_characters + sum(not _MARKS.fullmatch(word) for word in spaced.split())


def longest_word(line: str) -> int:
    """Characters of the longest word: what white space parts, or a script without spaces."""
    return max(map(len, _UNSPACED.sub(" ", line).split()), default=0)


def sentence_bounds(text: str) -> list[tuple[int, int]]:
    """Where sentences begin and end, without a gap; a text without an end is one."""
    ends = [match.end() for match in _BOUNDARY.finditer(text)] + [len(text)]
    return list(zip([0, *ends], ends, strict=False))


def num_sentences(line: str, *, most: int) -> int:
    """Sentences of a line without white space around it, counted up to `most`; what has no end counts as one."""
    found = 1
    for _ in _BOUNDARY.finditer(line):
        if found >= most:
            break
        found += 1
    return found


WORD, LETTER, UNSPACED_PIECE = 1, 2, 4
"Bits of a piece's kind: it is no mark; it has a letter; it is of a script without spaces."
_IS = [bytes(bool(each & kind) for each in range(256)) for kind in range(8)]
_IS_SPACED_WORD = bytes(bool(each & WORD and not each & UNSPACED_PIECE) for each in range(256))
"Tables of `bytes.translate`: from kinds to 1 for what is of a kind and 0 for the rest."


class Pieces(list[str]):
    """The pieces of a text, in order."""

    known: Mapping[str, int]
    "The kind of any piece."
    is_ascii: bool
    "So that all are of a script with spaces."

    @lazy
    def kinds(self) -> bytes:
        return bytes(map(self.known.__getitem__, self))

    def num(self, kind: int) -> int:
        """How many are of a kind, whatever else they are."""
        return self.kinds.translate(_IS[kind]).count(1)

    def is_mostly_unspaced(self) -> bool:
        """Whether more than half are of scripts without spaces."""
        return not self.is_ascii and 2 * self.num(UNSPACED_PIECE) > len(self)

    def num_spaced_words(self) -> int:
        """Words of scripts with spaces."""
        return self.kinds.translate(_IS_SPACED_WORD).count(1)

    def mean_spaced_word(self) -> float:
        """Characters of a word on average, over the words of scripts with spaces; not a number where none is."""
        num_words = self.num_spaced_words()
        chosen = compress(self, self.kinds.translate(_IS_SPACED_WORD))
        return sum(map(len, chosen)) / num_words if num_words else float("nan")


class Vocabulary:
    """Finds the pieces of texts; what it has seen makes the next text fast, and never changes a result.

    Args:
        splits: texts fall into words and marks; else into what white space parts.
    """

    def __init__(self, *, splits: bool) -> None:
        self._splits = splits
        self._parts = _Remembering(self._pieces_of)
        self._kinds = _Remembering(self._kind_of)

    def read(self, text: str) -> Pieces:
        if max(len(self._parts), len(self._kinds)) > MAX_REMEMBERED:
            self._parts.clear()
            self._kinds.clear()
        parts = map(self._parts.__getitem__, text.split())
        pieces = Pieces(chain.from_iterable(parts))
        pieces.known, pieces.is_ascii = self._kinds, text.isascii()
        return pieces

    def _pieces_of(self, part: str) -> tuple[str, ...]:
        """Of what is between two white spaces."""
        if not self._splits or (part.isascii() and part.isalpha()):
            return (part,)
        return tuple(pieces_of(part))

    def _kind_of(self, piece: str) -> int:
        if piece.isascii() and piece.isalpha():
            return WORD + LETTER
        is_word = not self._splits or not _MARKS.fullmatch(piece)
        has_letter = any(map(str.isalpha, piece))
        is_unspaced = self._splits and _UNSPACED.match(piece) is not None
        return WORD * is_word + LETTER * has_letter + UNSPACED_PIECE * is_unspaced


class _Remembering(dict[str, Known]):
    """What a function says of strings, asked once of each that is not long."""

    def __init__(self, function: Callable[[str], Known]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, key: str) -> Known:
        value = self._function(key)
        if len(key) <= REMEMBERED_CHARACTERS:
            self[key] = value
        return value
