"""Exact duplicates: texts whose normalized forms have one hash.

A hash is 16 bytes of BLAKE2b, [2] of uint64, so that two different texts out of 10**12 meet with probability
below 10**-14 (birthday bound n**2 / 2**129).
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data.hashing import Hashes

_PUNCTUATION = re.compile(r"[^\w\s]")


@dataclass
class DedupRules:
    """Which differences between two texts do not count."""

    ignore_whitespace: bool = True
    "Runs of white space are as one space, and none at the ends."
    ignore_case: bool = False
    "Upper and lower case are one (case folding)."
    ignore_punctuation: bool = False
    "What is neither letter, digit, underscore nor white space is not there."


def content_hash(text: str, rules: DedupRules) -> bytes:
    """16 bytes; equal for texts that the rules hold to be one. Unicode is compared in NFC."""
    text = unicodedata.normalize("NFC", text)
    if rules.ignore_case:
        text = unicodedata.normalize("NFC", text.casefold())
    if rules.ignore_punctuation:
        text = _PUNCTUATION.sub("", text)
    if rules.ignore_whitespace:
        text = " ".join(text.split())
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def hash_texts(texts: Iterable[str], *, rules: DedupRules) -> Hashes:
    """The hashes of texts in order, [num_documents, 2]."""
    raw = b"".join(content_hash(text, rules) for text in texts)
    return np.frombuffer(raw, dtype="<u8").astype(np.uint64).reshape(-1, 2)
