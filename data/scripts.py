"""Scripts by the blocks of their letters (Unicode 16, Blocks.txt): what a text is mostly in, and what has no spaces."""

import numpy as np

OTHER = "other"
UNSPACED_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # Han: iteration mark, closing mark, zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # Katakana of half width
    (0x20000, 0x3FFFF),
)
"Characters of the scripts that put no space between words."
BLOCKS = (
    (0x41, 0x80, "Latin"),
    (0xC0, 0x250, "Latin"),
    (0x370, 0x400, "Greek"),
    (0x400, 0x530, "Cyrillic"),
    (0x530, 0x590, "Armenian"),
    (0x590, 0x600, "Hebrew"),
    (0x600, 0x780, "Arabic"),
    (0x900, 0x980, "Devanagari"),
    (0x980, 0xA00, "Bengali"),
    (0xB80, 0xC00, "Tamil"),
    (0xE00, 0xE80, "Thai"),
    (0x10A0, 0x1100, "Georgian"),
    (0x1100, 0x1200, "Hangul"),
    (0x1E00, 0x1F00, "Latin"),
    (0x1F00, 0x2000, "Greek"),
    (0x3040, 0x3100, "Kana"),
    (0x3400, 0xA000, "Han"),
    (0xAC00, 0xD7B0, "Hangul"),
    (0x20000, 0x32000, "Han"),
)
_STARTS = np.array([bound for start, stop, _ in BLOCKS for bound in (start, stop)])
_NAMES = sorted({name for _, _, name in BLOCKS})
_SCRIPT_OF = np.array([place for _, _, name in BLOCKS for place in (_NAMES.index(name), -1)])
_ASCII_MARKS = np.array([not chr(point).isalpha() for point in range(0x80)])


def main_script(text: str) -> str:
    """The script with the most letters, the first by name of equal ones; `other` where there is no letter of any."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    points = points[(points >= len(_ASCII_MARKS)) | ~_ASCII_MARKS[np.minimum(points, len(_ASCII_MARKS) - 1)]]
    blocks = np.searchsorted(_STARTS, points, side="right") - 1
    scripts = np.where(blocks >= 0, _SCRIPT_OF[blocks], -1)
    counts = np.bincount(scripts[scripts >= 0], minlength=len(_NAMES))
    return _NAMES[int(counts.argmax())] if counts.any() else OTHER
