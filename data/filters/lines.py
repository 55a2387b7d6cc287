"""C4's rules on lines: Raffel et al. 2020, section 2.2, and the code that made it, TensorFlow Datasets' c4_utils.py."""

import re
from collections import Counter
from enum import Enum

from data.filters.rules import DropReason, LineRules
from data.filters.words import SENTENCE_ENDS, longest_word, num_line_words, num_sentences

POLICY_PHRASES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_TERMINAL = re.compile(
    rf"(?:(?<!\.\.)[.]|[{SENTENCE_ENDS[0]}{SENTENCE_ENDS[2:]}\"'\u2019\u201d\u300d\u300f])\Z"
)
"The end of a line: a sentence's mark or a closing quotation mark, but not three full stops."


class LineReason(Enum):
    """Why a line is dropped; the names of the counters."""

    LONG_WORD = "long_word"
    UNPUNCTUATED = "unpunctuated"
    FEW_WORDS = "few_words"
    JAVASCRIPT = "javascript"
    POLICY = "policy"


class LineFilter:
    """Drops lines of documents, and counts them."""

    def __init__(self, rules: LineRules) -> None:
        self._rules = rules
        self.counters: Counter[str] = Counter()
        "Of the documents read to their end: lines_in = lines + the sum of lines_dropped/REASON."

    def read(self, text: str) -> tuple[str, DropReason | None]:
        """What is left of a text, or the reason to drop all of it.

        The rules are asked in the order of C4's code: a line that goes for one reason is not looked at for the next,
        so that lorem ipsum in a line of two words does not drop the document.
        """
        kept: list[str] = []
        dropped: Counter[str] = Counter()
        cites = self._rules.citations and "[" in text
        speaks = self._speaks_of_itself(text)
        for line in map(str.strip, text.splitlines()):
            bare = _CITATION.sub("", line) if cites else line
            reason = self._reason_of_shape(line, bare) or (self._reason_of_phrase(bare) if speaks else None)
            if reason is None:
                kept.append(bare)
            elif isinstance(reason, LineReason):
                dropped[reason.value] += 1
            else:
                return text, reason
        self._count(dropped, len(kept))
        return "\n".join(kept).strip(), None if self._has_sentences(kept) else DropReason.FEW_SENTENCES

    def _count(self, dropped: Counter[str], num_kept: int) -> None:
        self.counters.update({f"lines_dropped/{reason}": times for reason, times in dropped.items()})
        self.counters["lines_in"] += num_kept + dropped.total()
        self.counters["lines"] += num_kept

    def _speaks_of_itself(self, text: str) -> bool:
        """Whether any phrase that a rule looks for is in the text: most have none, and their lines need no search."""
        lowered = text.lower()
        return "{" in text or any(
            phrase in lowered for phrase in ("lorem ipsum", "javascript", *POLICY_PHRASES)
        )

    def _reason_of_shape(self, line: str, bare: str) -> LineReason | None:
        rules = self._rules
        longest, least = rules.max_word_characters, rules.min_words
        if longest is not None and len(line) > longest and longest_word(line) > longest:
            return LineReason.LONG_WORD
        if rules.terminal_punctuation and not _TERMINAL.search(bare[-3:]):
            return LineReason.UNPUNCTUATED
        if least is not None and len(line.split(None, least)) < least and num_line_words(line) < least:
            return LineReason.FEW_WORDS
        return None

    def _reason_of_phrase(self, line: str) -> LineReason | DropReason | None:
        rules, lowered = self._rules, line.lower()
        if rules.lorem_ipsum and "lorem ipsum" in lowered:
            return DropReason.LOREM_IPSUM
        if rules.javascript and "javascript" in lowered:
            return LineReason.JAVASCRIPT
        if rules.curly_brackets and "{" in line:
            return DropReason.CURLY_BRACKET
        if rules.policy and any(phrase in lowered for phrase in POLICY_PHRASES):
            return LineReason.POLICY
        return None

    def _has_sentences(self, lines: list[str]) -> bool:
        least, found = self._rules.min_sentences or 0, 0
        for line in lines:
            if found >= least:
                break
            found += num_sentences(line, most=least - found)
        return found >= least
