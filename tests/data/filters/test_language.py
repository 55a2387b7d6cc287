import socket
from typing import Any

import pytest

from data.filters import DropReason, FilterRules, Judge, LanguageRules, Verdict
from data.filters.language import identify
from pipeline.config import compose_recipe

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


def test_only_the_beginning_is_read_where_that_is_wanted():
    rules = LanguageRules(languages=["en"], max_characters=len(TEXTS["en"]))
    text = TEXTS["en"] + (" " + TEXTS["de"]) * 5
    assert Judge(FilterRules(language=rules)).judge(text).language == "en"
    assert Judge(FilterRules(language=LanguageRules(languages=["en"]))).judge(text).language == "de"


def test_a_text_in_no_language_scores_low():
    judge = Judge(FilterRules(language=LanguageRules(min_score=0.65)))
    assert judge.judge("12 34 56").reason is DropReason.LANGUAGE


CHINESE = (
    "\u6cb3\u8fb9\u6709\u4e00\u5ea7\u65e7\u6c34\u8f66\uff0c\u6751\u91cc\u7684\u4eba\u90fd\u8bb0\u5f97\u5b83\u3002"
    "\u6625\u5929\u6c34\u591a\uff0c\u5b83\u8f6c\u5f97\u5f88\u5feb\u3002"
    "\u5230\u4e86\u590f\u5929\uff0c\u5b69\u5b50\u4eec\u5728\u4e0b\u9762\u6e38\u6cf3\u3002"
    "\u79cb\u5929\u7684\u665a\u4e0a\uff0c\u8001\u4eba\u5750\u5728\u6865\u4e0a\u8bf4\u65e7\u4e8b\uff01"
    "\u51ac\u5929\u4e0b\u96ea\uff0c\u6c34\u8f66\u4e0d\u52a8\u4e86\uff0c\u4f46\u662f\u5b83\u8fd8\u7ad9\u5728\u90a3\u91cc\u3002"
    "\u4eba\u4eec\u95ee\uff1a\u660e\u5e74\u5b83\u8fd8\u4f1a\u8f6c\u5417\uff1f"
)


def test_the_published_rules_read_a_language_without_spaces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["+rules@stages.clean.rules=fineweb", "stages.clean.rules.language.languages=[zh]"]
    stage: Any = compose_recipe(overrides).config.stages["clean"]
    assert Judge(stage.rules).judge(CHINESE) == Verdict(CHINESE, None, "zh")
    assert Judge(stage.rules).judge(CHINESE[:40]).reason is DropReason.TOP_4GRAM
    assert Judge(stage.rules).judge(CHINESE.replace("\u3002", "\uff0c")).reason is DropReason.FEW_SENTENCES
    assert Judge(stage.rules).judge("\n".join([CHINESE] * 3)).reason is DropReason.DUPLICATE_LINES
    assert Judge(stage.rules).judge(TEXTS["en"]).reason is DropReason.LANGUAGE


def test_no_language_is_asked_for_without_a_rule():
    judge = Judge(FilterRules(min_words=1))
    assert judge.judge(TEXTS["de"]).language == ""
    assert judge.counters == {}
