"""What the rules measure of a text, in either reading, and the order in which they are asked."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property

from data.filters.repetition import DUPLICATE_SIZES, TOP_SIZES, Repetition
from data.filters.rules import DropReason
from data.filters.stop_words import STOP_WORDS, UNSPACED_LANGUAGES
from data.filters.words import Pieces, Vocabulary

BULLETS = ("\u2022", "\u2023", "-", "*")
ELLIPSES = ("...", "\u2026")


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

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without the white space around them."""
        return [line for line in map(str.strip, self.text.splitlines()) if line]

    @cached_property
    def paragraphs(self) -> list[str]:
        """What two line ends or more part."""
        return list(filter(None, (each.lstrip("\n") for each in self.text.strip().split("\n\n"))))

    @cached_property
    def pieces(self) -> Pieces:
        return self._vocabulary.read(self.text)

    @cached_property
    def repetition(self) -> Repetition:
        return Repetition(self.pieces)

    @cached_property
    def num_word_characters(self) -> int:
        return sum(map(len, self.words))

    @cached_property
    def num_repeats(self) -> Counter[str]:
        """For each line, how often it occurs beyond the first time."""
        return repeats(self.lines)

    def num_words(self) -> int:
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
        return ratio(self.num_repeats.total(), len(self.lines))

    def duplicate_line_character_fraction(self) -> float:
        return ratio(num_characters(self.num_repeats), sum(map(len, self.lines)))

    def duplicate_paragraph_fraction(self) -> float:
        return ratio(repeats(self.paragraphs).total(), len(self.paragraphs))

    def duplicate_paragraph_character_fraction(self) -> float:
        return ratio(num_characters(repeats(self.paragraphs)), len(self.text))

    def sequence_character_fraction(self, size: int) -> float:
        return ratio(self.repetition.characters(size), len(self.text))

    def longest_line(self) -> int:
        return max(map(len, self.text.splitlines()), default=0)

    def mean_line_characters(self) -> float:
        return ratio(sum(map(len, self.lines)), len(self.lines))


class TokenMeasures(Measures):
    """Reading: `tokens`, which decides as the code that published these sets (datatrove) decides on the same words."""

    @cached_property
    def whole_lines(self) -> list[str]:
        """What one line end or more parts, white space and all; a line end at either end of the text parts nothing."""
        inner = list(filter(None, self.text.split("\n")))
        return [""] * self.text.startswith("\n") + inner + [""] * self.text.endswith("\n")

    @cached_property
    def num_repeats(self) -> Counter[str]:
        return repeats(self.whole_lines)

    def num_words(self) -> int:
        return int(self.pieces.is_word.sum())

    def mean_word_length(self) -> float:
        """Of words of scripts with spaces; not a number, which no threshold refuses, where these are the fewer.

        A number or an address in a Chinese text says nothing of its words.
        """
        spaced = self.pieces.is_word & ~self.pieces.is_unspaced
        num_spaced = int(spaced.sum())
        if not num_spaced or 2 * num_spaced < self.num_words():
            return float("nan")
        return int(self.pieces.lengths[spaced].sum()) / num_spaced

    def per_word(self, *signs: str) -> float:
        return ratio(sum(map(self.text.count, signs)), len(self.pieces.numbers))

    def alphabetic_word_fraction(self) -> float:
        return ratio(int(self.pieces.has_letter.sum()), len(self.pieces.numbers))

    def num_stop_words(self) -> float:
        """Not a number where no stop words are known of the language."""
        wanted = self._stop_words or STOP_WORDS.get(self.language, ())
        if not wanted:
            return float("nan")
        if self.language in UNSPACED_LANGUAGES:
            return sum(word in self.text for word in wanted)
        numbers = map(self._vocabulary.number_of, wanted) if len(self.pieces.numbers) else ()
        return sum(bool((self.pieces.numbers == number).any()) for number in numbers)

    def bullet_line_fraction(self) -> float:
        lines = self.text.splitlines()
        return ratio(sum(line.lstrip().startswith(("\u2022", "-")) for line in lines), len(lines))

    def ellipsis_line_fraction(self) -> float:
        lines = self.text.splitlines()
        return ratio(sum(line.rstrip().endswith(ELLIPSES) for line in lines), len(lines))

    def duplicate_line_fraction(self) -> float:
        return ratio(self.num_repeats.total(), len(self.whole_lines))

    def duplicate_line_character_fraction(self) -> float:
        return ratio(num_characters(self.num_repeats), len(self.text))


def repeats(lines: Sequence[str]) -> Counter[str]:
    """For each line, how often it occurs beyond the first time."""
    if len(set(lines)) == len(lines):
        return Counter()
    return Counter({line: times - 1 for line, times in Counter(lines).items() if times > 1})


def num_characters(repeats: Counter[str]) -> int:
    return sum(len(line) * times for line, times in repeats.items())


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


Measure = Callable[[Measures], float]


def _of_size(size: int) -> Measure:
    return lambda m: m.sequence_character_fraction(size)


# In the order in which they are asked: cheap ones of our own, Gopher's on repetition, Gopher's on quality, as FineWeb
# has them. Field of FilterRules (min_ or max_ tells the side), what it bounds, and the reason when it does not hold.
CHECKS: tuple[tuple[str, Measure, DropReason], ...] = (
    ("min_characters", lambda m: len(m.text), DropReason.FEW_CHARACTERS),
    ("max_characters", lambda m: len(m.text), DropReason.MANY_CHARACTERS),
    ("max_line_characters", lambda m: m.longest_line(), DropReason.LONG_LINE),
    ("max_mean_line_characters", lambda m: m.mean_line_characters(), DropReason.LONG_LINES),
    (
        "max_duplicate_paragraph_fraction",
        lambda m: m.duplicate_paragraph_fraction(),
        DropReason.DUPLICATE_PARAGRAPHS,
    ),
    (
        "max_duplicate_paragraph_character_fraction",
        lambda m: m.duplicate_paragraph_character_fraction(),
        DropReason.DUPLICATE_PARAGRAPH_CHARACTERS,
    ),
    ("max_duplicate_line_fraction", lambda m: m.duplicate_line_fraction(), DropReason.DUPLICATE_LINES),
    (
        "max_duplicate_line_character_fraction",
        lambda m: m.duplicate_line_character_fraction(),
        DropReason.DUPLICATE_LINE_CHARACTERS,
    ),
    *((f"max_top_{n}gram_character_fraction", _of_size(n), DropReason(f"top_{n}gram")) for n in TOP_SIZES),
    *(
        (f"max_duplicate_{n}gram_character_fraction", _of_size(n), DropReason(f"duplicate_{n}grams"))
        for n in DUPLICATE_SIZES
    ),
    ("min_words", lambda m: m.num_words(), DropReason.FEW_WORDS),
    ("max_words", lambda m: m.num_words(), DropReason.MANY_WORDS),
    ("min_mean_word_length", lambda m: m.mean_word_length(), DropReason.SHORT_WORDS),
    ("max_mean_word_length", lambda m: m.mean_word_length(), DropReason.LONG_WORDS),
    ("max_symbol_ratio", lambda m: m.per_word("#", *ELLIPSES), DropReason.SYMBOLS),
    ("max_hash_ratio", lambda m: m.per_word("#"), DropReason.HASHES),
    ("max_ellipsis_ratio", lambda m: m.per_word(*ELLIPSES), DropReason.ELLIPSIS_MARKS),
    ("max_bullet_line_fraction", lambda m: m.bullet_line_fraction(), DropReason.BULLETS),
    ("max_ellipsis_line_fraction", lambda m: m.ellipsis_line_fraction(), DropReason.ELLIPSES),
    ("min_alphabetic_fraction", lambda m: m.alphabetic_fraction(), DropReason.FEW_LETTERS),
    (
        "min_alphabetic_word_fraction",
        lambda m: m.alphabetic_word_fraction(),
        DropReason.FEW_ALPHABETIC_WORDS,
    ),
    ("min_stop_words", lambda m: m.num_stop_words(), DropReason.FEW_STOP_WORDS),
)
