"""What a recipe may set of word vectors; without torch, so that a command line can read it."""

from dataclasses import dataclass


@dataclass
class Ngrams:
    """Which character n-grams a word has in fastText, and how many buckets they fall into."""

    min_n: int = 3
    "Characters of the shortest, the marks `<` and `>` around a word counted; >= 1."
    max_n: int = 6
    "Characters of the longest; >= min_n."
    num_buckets: int = 2_000_000
    "Each is a row of the matrix, width x 4 bytes, whether an n-gram falls into it or not; >= 1."


@dataclass
class GloveRules:
    """What weighs an entry."""

    max_count: float = 100.0
    "Entries of more weigh 1; > 0."
    exponent: float = 0.75
    "Of the weight of those of less, (count / max_count)^exponent; >= 0."
