"""FineWeb's own rules (Penedo et al. 2024, section 3.6, and the code that made the data set)."""

from data.filters.measures import ratio, repeats
from data.filters.rules import DropReason, FineWebRules
from data.filters.words import ENDS_SENTENCE, Vocabulary


def fineweb_reason(text: str, rules: FineWebRules, vocabulary: Vocabulary) -> DropReason | None:
    """The first rule's reason to drop the text, or None: keep it. The text has a line that is not blank."""
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    least = rules.min_punctuated_line_fraction
    if least is not None and ratio(sum(line[-1] in ENDS_SENTENCE for line in lines), len(lines)) < least:
        return DropReason.UNPUNCTUATED_LINES
    most, length = rules.max_short_line_fraction, rules.short_line_characters
    if most is not None and ratio(sum(len(line) <= length for line in lines), len(lines)) > most:
        return DropReason.SHORT_LINES
    most = rules.max_duplicate_line_character_fraction
    if most is not None and _duplicate_fraction(text, lines) > most:
        return DropReason.REPEATED_LINES
    most = rules.max_line_ends_per_word
    if most is not None and _has_many_line_ends(text, most, vocabulary):
        return DropReason.LIST
    return None


def _duplicate_fraction(text: str, lines: list[str]) -> float:
    return ratio(repeats(lines).characters, len(text) - text.count("\n"))


def _has_many_line_ends(text: str, most: float, vocabulary: Vocabulary) -> bool:
    """What white space parts holds a word or more: where these are enough, the words need not be found."""
    line_ends = text.count("\n")
    return line_ends > most * len(text.split()) and line_ends > most * len(vocabulary.read(text))
