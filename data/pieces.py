"""Long texts in pieces whose ids, one after the other, are those of the whole.

A text is cut only where every split that we know ends a word whatever came before, and begins one whatever follows:
before a space that follows no white space; before a line end or a full-width mark that follows an ASCII letter or
digit or a common Han character. No rule of these splits takes a space, a line end or such a mark but as the first
character of what it matches, or within a run of white space or of marks; and none looks back.
"""

import re
from collections.abc import Iterator
from typing import Any

from data import bpe
from data.vocabularies import UNIGRAM_PATTERN

PIECE_CHARACTERS = 1 << 16
CUT = re.compile(r"(?<=\S) |(?<=[0-9A-Za-z\u4e00-\u9fff])[\n\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f]")
SEARCHED_BYTES = 1 << 16

BPE_PATTERNS = (bpe.GPT2_PATTERN, bpe.CL100K_PATTERN, bpe.O200K_PATTERN)
WORD_SPLITS = ("BertPreTokenizer", "Whitespace")  # they leave no white space
WORD_FORMS = (None, "NFC", "NFKC", "BertNormalizer")
UNIGRAM_FORMS = (None, "NFC", "NFKC")  # BERT's drops characters, and so joins the spaces around them


def can_cut(spec: dict[str, Any]) -> bool:
    """Whether the texts of this tokenizer.json may be cut at `CUT`."""
    form, split = (spec.get("normalizer") or {}).get("type"), spec.get("pre_tokenizer") or {}
    if spec["model"].get("type") == "BPE":
        return form is None and bpe.split_pattern(spec) in BPE_PATTERNS
    if split.get("type") in WORD_SPLITS:
        return form in WORD_FORMS
    steps = split.get("pretokenizers", [{}])
    return form in UNIGRAM_FORMS and steps[0].get("pattern") == {"Regex": UNIGRAM_PATTERN}


def pieces(text: str, *, size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """The text in pieces of at least `size` characters, cut at the first place from there on."""
    start = 0
    while found := CUT.search(text, start + max(1, size)):
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def cut_from(content: memoryview, start: int) -> int:
    """The first place from byte `start` of a UTF-8 text on where it may be cut; its end where there is none.

    A function of the text and `start` alone, that reads no more than it must.
    """
    if start <= 0:
        return 0
    while start < len(content):
        start = _character(content, start)
        stop = _character(content, start + SEARCHED_BYTES)
        window = bytes(content[start:stop]).decode()
        if found := CUT.search(window, 1):  # the first character is there to be looked back at
            return start + len(window[: found.start()].encode())
        start = stop if stop == len(content) else stop - len(window[-1].encode())
    return len(content)


def _character(content: memoryview, place: int) -> int:
    """The nearest place from there on that is no middle of a character."""
    while place < len(content) and content[place] & 0xC0 == 0x80:  # noqa: PLR2004 - a continuation byte
        place += 1
    return min(place, len(content))
