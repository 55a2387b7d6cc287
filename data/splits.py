"""Train, validation and test by a hash of each document's name: a document never changes sides as others come."""

import hashlib
from dataclasses import dataclass
from enum import Enum

from data.dedup.marks import cluster_of
from data.documents import Document
from data.errors import Problem


class Split(Enum):
    """The values name the parts of an artifact."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class SplitKey(Enum):
    """What documents must share to fall on one side."""

    id = "id"
    source = "source"  # all documents of one file stay together


@dataclass
class SplitRules:
    """How much is held out; what is neither validation nor test is train."""

    validation_fraction: float = 0.01
    "Fraction of documents, about; 0 to 1, and below 1 together with test."
    test_fraction: float = 0.01
    "Fraction of documents, about; 0 to 1."
    key: SplitKey = SplitKey.id
    """id: each document by itself, save that those which `dedup` marked go with the one they duplicate; source: all
    documents of a file together, whatever they duplicate."""
    seed: int = 0
    "Another seed is another, independent split."

    def problems(self) -> list[Problem]:
        fractions = {"validation_fraction": self.validation_fraction, "test_fraction": self.test_fraction}
        found = [
            Problem(name, f"{value}", "a fraction from 0 to 1")
            for name, value in fractions.items()
            if not 0 <= value <= 1
        ]
        if not found and sum(fractions.values()) >= 1:
            total = sum(fractions.values())
            found.append(
                Problem("test_fraction", f"{total} is held out in all", "below 1", "leave some to train on")
            )
        return found


def split_of(document: Document, *, rules: SplitRules) -> Split:
    """Where a document belongs: a pure function of its key and the seed.

    Test is taken from one end of the hash's range and validation from the other, so that a change of one
    fraction moves documents between that split and train only.
    """
    name = cluster_of(document) if rules.key is SplitKey.id else document.source
    digest = hashlib.blake2b(
        f"{rules.seed}/{name}".encode(), digest_size=8, person=b"headrace split"
    ).digest()
    place = (int.from_bytes(digest, "little") >> 11) / 2**53  # uniform in [0, 1), exact in a float
    if place < rules.test_fraction:
        return Split.TEST
    if place >= 1 - rules.validation_fraction:
        return Split.VALIDATION
    return Split.TRAIN
