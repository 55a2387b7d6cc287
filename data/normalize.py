"""Normalizing text: each rule is an option, all are pure, and normalizing twice changes nothing more."""

import re
import unicodedata
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from data.errors import Problem


class UnicodeForm(Enum):
    """Normal forms of Unicode Standard Annex 15; the values are what `unicodedata.normalize` takes."""

    none = ""  # as it comes
    nfc = "NFC"  # canonical: one spelling of each accented letter, nothing is lost
    nfkc = "NFKC"  # compatibility: also full-width forms, ligatures, superscripts; loses distinctions


@dataclass
class NormalizeRules:
    """What is made uniform. The defaults are safe for prose and for source code."""

    mojibake: bool = False
    "Lines that were decoded in the wrong encoding are repaired by ftfy (Speer 2019): \u00c3\u00a9 becomes \u00e9."
    unicode_form: UnicodeForm = UnicodeForm.nfc
    "none, nfc or nfkc."
    line_endings: bool = True
    "CRLF and CR become LF."
    control_characters: bool = True
    "Control characters (category Cc) but tab, LF and CR go, and byte order marks."
    trailing_whitespace: bool = True
    "White space before a line's end and at the end of the text goes."
    max_blank_lines: int | None = 2
    "Blank lines in a row at most; longer runs are cut to this. None: as they come. >= 0."

    def problems(self) -> list[Problem]:
        if self.max_blank_lines is not None and self.max_blank_lines < 0:
            return [Problem("max_blank_lines", f"{self.max_blank_lines}", "0 or more, or null")]
        return []


_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_TRAILING = re.compile(r"(?<![^\S\r\n])[^\S\r\n]++(?=\r|\n|\Z)")  # entered once a run, so in linear time


def normalize(text: str, *, rules: NormalizeRules) -> str:
    """The text in the rules' form."""
    if not rules.mojibake or text.isascii():
        return _uniform(text, rules)
    before, text = text, _uniform(_repair(text), rules)
    while text != before:  # what stood between two halves of a letter may be gone now
        before, text = text, _uniform(_repair(text), rules)
    return text


def _uniform(text: str, rules: NormalizeRules) -> str:
    if rules.line_endings and "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if rules.control_characters:
        text = _CONTROLS.sub("", text)
    if rules.unicode_form is not UnicodeForm.none:
        text = unicodedata.normalize(rules.unicode_form.value, text)
    if rules.trailing_whitespace:
        text = _trim_lines(text).rstrip()
    most = rules.max_blank_lines
    if most is not None and (not rules.trailing_whitespace or "\r" in text or "\n" * (most + 1) in text):
        text = _cut_blank_lines(text, most)  # which is half of the time where it is asked of every text
    return text


def _repair(text: str) -> str:
    """Each repair is shorter than what it repairs, so that repairing comes to an end."""
    import ftfy

    return ftfy.fix_text(text, _repair_config())


@cache
def _repair_config() -> Any:
    """Encodings are repaired; of ftfy's other wishes (quotation marks, entities, widths) none."""
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
    )


def _trim_lines(text: str) -> str:
    if "\r" in text:  # a regular expression tells CR from other white space, at a third of the speed
        return _TRAILING.sub("", text)
    return "\n".join(map(str.rstrip, text.split("\n")))


def _cut_blank_lines(text: str, most: int) -> str:
    """Lines end in LF or CRLF, and a line of white space is blank; the first `most` of a run are kept as they are."""
    line = r"[^\S\r\n]*\r?\n"
    return re.sub(rf"((?:\A|\n)(?:{line}){{{most}}})(?:{line})+", r"\1", text)
