"""What the rules measure of a text, in either reading, and the order in which they are asked."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from data.filters.lazy import lazy
from data.filters.repetition import DUPLICATE_SIZES, TOP_SIZES, Repetition
from data.filters.rules import DropReason
from data.filters.stop_words import STOP_WORDS, UNSPACED_LANGUAGES
from data.filters.words import LETTER, WORD, Pieces, Vocabulary

BULLETS = ("\u2022", "\u2023", "-", "*")
ELLIPSES = ("...", "\u2026")


class Repeats(NamedTuple):
    """Lines or paragraphs that repeat an earlier one."""

    times: int
    characters: int


NONE_REPEATS = Repeats(0, 0)


class Measures:
    """What the rules measure of a text, each computed once and only if a rule asks. Reading: `spaces`.

    Args:
        text: not empty.
        vocabulary: of this reading; it may know other texts.
        stop_words: what `num_stop_words` looks for.
        language: ISO 639 code of the text.
    """

    def __init__(
        self, text: str, *, vocabulary: Vocabulary, stop_words: Sequence[str] = (), language: str = "en"
    ) -> None:
        self.text, self.language = text, language
        self._vocabulary, self._stop_words = vocabulary, stop_words

    @lazy
    def words(self) -> list[str]:
        return self.text.split()

    @lazy
    def lines(self) -> list[str]:
        """Lines that are not blank, without the white space around them."""
        return [line for line in map(str.strip, self.text.splitlines()) if line]

    @lazy
    def paragraphs(self) -> list[str]:
        """What two line ends or more part."""
        return list(filter(None, (each.lstrip("\n") for each in self.text.strip().split("\n\n"))))

    @lazy
    def pieces(self) -> Pieces:
        return self._vocabulary.read(self.text)

    @lazy
    def repetition(self) -> Repetition:
        return Repetition(self.pieces)

    @lazy
    def num_word_characters(self) -> int:
        return sum(map(len, self.words))

    @lazy
    def line_repeats(self) -> Repeats:
        return repeats(self.lines)

    @lazy
    def paragraph_repeats(self) -> Repeats:
        return repeats(self.paragraphs) if "\n\n" in self.text else NONE_REPEATS

    def num_words(self) -> int:
        return len(self.words)

    def most_words(self) -> int:
        """No fewer than `num_words`."""
        return len(self.words)

    def mean_word_length(self) -> float:
        return ratio(self.num_word_characters, len(self.words))

    def per_word(self, *signs: str) -> float:
        return ratio(sum(map(self.text.count, signs)), len(self.words))

    def alphabetic_fraction(self) -> float:
        return ratio(sum(map(str.isalpha, self.text)), self.num_word_characters)

    def alphabetic_word_fraction(self) -> float:
        return ratio(sum(any(map(str.isalpha, word)) for word in self.words), len(self.words))

    def num_stop_words(self) -> float:
        return len(set(self._stop_words or STOP_WORDS["en"]).intersection(map(str.lower, self.words)))

    def bullet_line_fraction(self) -> float:
        return ratio(sum(line.startswith(BULLETS) for line in self.lines), len(self.lines))

    def ellipsis_line_fraction(self) -> float:
        return ratio(sum(line.endswith(ELLIPSES) for line in self.lines), len(self.lines))

    def duplicate_line_fraction(self) -> float:
        return ratio(self.line_repeats.times, len(self.lines))

    def duplicate_line_character_fraction(self) -> float:
        return ratio(self.line_repeats.characters, sum(map(len, self.lines)))

    def duplicate_paragraph_fraction(self) -> float:
        return ratio(self.paragraph_repeats.times, len(self.paragraphs))

    def duplicate_paragraph_character_fraction(self) -> float:
        return ratio(self.paragraph_repeats.characters, len(self.text))

    def sequence_character_fraction(self, size: int) -> float:
        return self.repetition.characters(size) / len(self.text)

    def longest_line(self) -> int:
        return max(map(len, self.text.splitlines()), default=0)

    def mean_line_characters(self) -> float:
        return ratio(sum(map(len, self.lines)), len(self.lines))


class TokenMeasures(Measures):
    """Reading: `tokens`, which decides as the code that published these sets (datatrove) decides on the same words."""

    @lazy
    def whole_lines(self) -> list[str]:
        """What one line end or more parts, white space and all; a line end at either end of the text parts nothing."""
        inner = list(filter(None, self.text.split("\n")))
        return [""] * self.text.startswith("\n") + inner + [""] * self.text.endswith("\n")

    @lazy
    def line_repeats(self) -> Repeats:
        return repeats(self.whole_lines) if "\n" in self.text else NONE_REPEATS

    def num_words(self) -> int:
        return self.pieces.num(WORD)

    def most_words(self) -> int:
        return len(self.pieces)

    def mean_word_length(self) -> float:
        """Of words of scripts with spaces; not a number, which no threshold refuses, where these are the fewer.

        A number or an address in a Chinese text says nothing of its words.
        """
        if 2 * self.pieces.num_spaced_words() < self.num_words():
            return float("nan")
        return self.pieces.mean_spaced_word()

    def per_word(self, *signs: str) -> float:
        return ratio(sum(map(self.text.count, signs)), len(self.pieces))

    def alphabetic_word_fraction(self) -> float:
        return ratio(self.pieces.num(LETTER), len(self.pieces))

    def num_stop_words(self) -> float:
        """Not a number where no stop words are known of the language."""
        wanted = self._stop_words or STOP_WORDS.get(self.language, ())
        if not wanted:
            return float("nan")
        if self.language in UNSPACED_LANGUAGES:
            return sum(word in self.text for word in wanted)
        present = set(self.pieces)
        return sum(word in present for word in wanted)

    def bullet_line_fraction(self) -> float:
        lines = self.text.splitlines()
        return ratio(sum(line.lstrip().startswith(("\u2022", "-")) for line in lines), len(lines))

    def ellipsis_line_fraction(self) -> float:
        lines = self.text.splitlines()
        return ratio(sum(line.rstrip().endswith(ELLIPSES) for line in lines), len(lines))

    def duplicate_line_fraction(self) -> float:
        return ratio(self.line_repeats.times, len(self.whole_lines))

    def duplicate_line_character_fraction(self) -> float:
        return ratio(self.line_repeats.characters, len(self.text))


def repeats(lines: Sequence[str]) -> Repeats:
    """What occurs beyond the first time."""
    if len(set(lines)) == len(lines):
        return NONE_REPEATS
    beyond = {line: times - 1 for line, times in Counter(lines).items()}
    return Repeats(sum(beyond.values()), sum(len(line) * times for line, times in beyond.items()))


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


class Check(NamedTuple):
    """One rule: what it measures, and when there is nothing to measure."""

    field: str
    "Of `FilterRules`; min_ or max_ tells the side."
    measure: Callable[[Measures], float]
    reason: DropReason
    "Where the threshold does not hold."
    where: Callable[[Measures], object] | None = None
    "Where this is false the measure is 0, which every max_ allows."


def _of_size(size: int) -> Callable[[Measures], float]:
    return lambda m: m.sequence_character_fraction(size)


def _repeated_paragraphs(measures: Measures) -> bool:
    return measures.paragraph_repeats.times > 0


def _repeated_lines(measures: Measures) -> bool:
    return measures.line_repeats.times > 0


def _repeated_words(measures: Measures) -> bool:
    return measures.repetition.reaches(DUPLICATE_SIZES[0])


# In the order in which they are asked: cheap ones of our own, Gopher's on repetition, Gopher's on quality, as FineWeb
# has them.
CHECKS = (
    Check("min_characters", lambda m: len(m.text), DropReason.FEW_CHARACTERS),
    Check("max_characters", lambda m: len(m.text), DropReason.MANY_CHARACTERS),
    Check("max_line_characters", lambda m: m.longest_line(), DropReason.LONG_LINE),
    Check("max_mean_line_characters", lambda m: m.mean_line_characters(), DropReason.LONG_LINES),
    Check(
        "max_duplicate_paragraph_fraction",
        lambda m: m.duplicate_paragraph_fraction(),
        DropReason.DUPLICATE_PARAGRAPHS,
        _repeated_paragraphs,
    ),
    Check(
        "max_duplicate_paragraph_character_fraction",
        lambda m: m.duplicate_paragraph_character_fraction(),
        DropReason.DUPLICATE_PARAGRAPH_CHARACTERS,
        _repeated_paragraphs,
    ),
    Check(
        "max_duplicate_line_fraction",
        lambda m: m.duplicate_line_fraction(),
        DropReason.DUPLICATE_LINES,
        _repeated_lines,
    ),
    Check(
        "max_duplicate_line_character_fraction",
        lambda m: m.duplicate_line_character_fraction(),
        DropReason.DUPLICATE_LINE_CHARACTERS,
        _repeated_lines,
    ),
    *(
        Check(f"max_top_{n}gram_character_fraction", _of_size(n), DropReason(f"top_{n}gram"))
        for n in TOP_SIZES
    ),
    *(
        Check(
            f"max_duplicate_{n}gram_character_fraction",
            _of_size(n),
            DropReason(f"duplicate_{n}grams"),
            _repeated_words,
        )
        for n in DUPLICATE_SIZES
    ),
    Check("min_words", lambda m: m.most_words(), DropReason.FEW_WORDS),  # which may do: it costs less
    Check("min_words", lambda m: m.num_words(), DropReason.FEW_WORDS),
    Check("max_words", lambda m: m.num_words(), DropReason.MANY_WORDS),
    Check("min_mean_word_length", lambda m: m.mean_word_length(), DropReason.SHORT_WORDS),
    Check("max_mean_word_length", lambda m: m.mean_word_length(), DropReason.LONG_WORDS),
    Check("max_symbol_ratio", lambda m: m.per_word("#", *ELLIPSES), DropReason.SYMBOLS),
    Check("max_hash_ratio", lambda m: m.per_word("#"), DropReason.HASHES),
    Check("max_ellipsis_ratio", lambda m: m.per_word(*ELLIPSES), DropReason.ELLIPSIS_MARKS),
    Check("max_bullet_line_fraction", lambda m: m.bullet_line_fraction(), DropReason.BULLETS),
    Check("max_ellipsis_line_fraction", lambda m: m.ellipsis_line_fraction(), DropReason.ELLIPSES),
    Check("min_alphabetic_fraction", lambda m: m.alphabetic_fraction(), DropReason.FEW_LETTERS),
    Check(
        "min_alphabetic_word_fraction",
        lambda m: m.alphabetic_word_fraction(),
        DropReason.FEW_ALPHABETIC_WORDS,
    ),
    Check("min_stop_words", lambda m: m.num_stop_words(), DropReason.FEW_STOP_WORDS),
)
