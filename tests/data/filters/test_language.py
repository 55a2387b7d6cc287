import socket

import pytest

from data.filters import DropReason, FilterRules, Judge, LanguageRules
from data.filters.language import identify

TEXTS = {
    "en": "The river runs to the sea, and that is all that we have to say of it.",
    "de": "Der Fluss flie\u00dft ins Meer, und das ist alles, was wir dazu zu sagen haben.",
    "fr": "La rivi\u00e8re coule vers la mer, et c'est tout ce que nous avons \u00e0 en dire.",
    "zh": "\u6cb3\u6c34\u6d41\u5411\u5927\u6d77\uff0c\u8fd9\u5c31\u662f\u4e00\u5207\u3002",
    "ja": "\u5ddd\u306f\u6d77\u3078\u6d41\u308c\u308b\u3002",
    "th": "\u0e41\u0e21\u0e48\u0e19\u0e49\u0e33\u0e44\u0e2b\u0e25\u0e2a\u0e39\u0e48\u0e17\u0e30\u0e40\u0e25",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_language_is_recognised_without_a_network(language, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    code, score = identify(TEXTS[language] + "\n" + TEXTS[language])
    assert code == language
    assert 0.65 < score <= 1


def test_languages_are_kept_dropped_and_counted():
    judge = Judge(FilterRules(language=LanguageRules(languages=["en", "zh"], min_score=0.65)))
    verdicts = {language: judge.judge(text) for language, text in TEXTS.items()}
    assert [language for language, verdict in verdicts.items() if not verdict.reason] == ["en", "zh"]
    assert {verdict.reason for verdict in verdicts.values()} == {None, DropReason.LANGUAGE}
    assert {language: verdict.language for language, verdict in verdicts.items()} == {n: n for n in TEXTS}
    assert judge.counters == {f"language/{language}": 1 for language in TEXTS}


def test_a_text_in_no_language_scores_low():
    judge = Judge(FilterRules(language=LanguageRules(min_score=0.65)))
    assert judge.judge("12 34 56").reason is DropReason.LANGUAGE


def test_no_language_is_asked_for_without_a_rule():
    judge = Judge(FilterRules(min_words=1))
    assert judge.judge(TEXTS["de"]).language == ""
    assert judge.counters == {}
