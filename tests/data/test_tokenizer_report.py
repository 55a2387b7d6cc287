import io

import pytest

from data.documents import Document, DocumentWriter, document_batches
from data.scripts import main_script
from data.tokenizer_report import Report
from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer

RUSSIAN = "\u0432\u043e\u0434\u0430 \u0438 \u043a\u043e\u043b\u0435\u0441\u043e"
TEXTS = {"mill/a.txt": "water turns the wheel\n", "mill/b.txt": "the wheel turns\n", "river/c.txt": RUSSIAN}


def report(kind: TokenizerKind):
    sink = io.BytesIO()
    with DocumentWriter(sink) as writer:
        for name, text in TEXTS.items():
            writer.write(Document(name, text, name))
    learned = [text for name, text in TEXTS.items() if name.startswith("mill")] * 3
    tokenizer = train_tokenizer(learned, rules=TokenizerRules(kind=kind, vocab_size=400))
    made = Report(tokenizer)
    made.add(document_batches(io.BytesIO(sink.getvalue())))
    return tokenizer, made.facts()


@pytest.mark.parametrize("kind", list(TokenizerKind))
def test_groups_add_up_to_the_sample(kind):
    tokenizer, facts = report(kind)
    for groups in (facts["by_source"], facts["by_script"]):
        for name in ("documents", "bytes", "tokens"):
            assert sum(group[name] for group in groups.values()) == facts["sample"][name]
    assert facts["sample"]["tokens"] == sum(len(tokenizer.encode(text)) for text in TEXTS.values())
    assert facts["by_source"].keys() == {"mill", "river"}
    assert facts["by_script"].keys() == {"Latin", "Cyrillic"}
    assert 0 < facts["used_fraction"] < 1
    assert facts["control_tokens_that_text_spells"] == []
    assert len(facts["examples"]) == 3


def test_what_is_unknown_is_told_by_script():
    _, facts = report(TokenizerKind.word)
    assert facts["by_script"]["Cyrillic"]["unknown_fraction"] == 1
    assert facts["by_script"]["Latin"]["unknown_fraction"] == 0
    _, bytes_only = report(TokenizerKind.byte_bpe)
    assert bytes_only["by_script"]["Cyrillic"]["unknown_fraction"] == 0
    assert bytes_only["by_script"]["Cyrillic"]["bytes_per_token"] < 2 < facts["sample"]["bytes_per_token"]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("plain words, caf\u00e9", "Latin"),
        (RUSSIAN, "Cyrillic"),
        ("\u4e2d\u6587\u5b57 ab", "Han"),
        ("\u3072\u3089\u304c\u306a \u5b57", "Kana"),
        ("\ud55c\uad6d\uc5b4", "Hangul"),
        ("\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "Arabic"),
        ("123 + 4 = \u00b1 [_]", "other"),
        ("", "other"),
    ],
)
def test_the_script_of_most_letters(text, script):
    assert main_script(text) == script
