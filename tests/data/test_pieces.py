import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.bpe import SAMPLE
from data.pieces import SEARCHED_BYTES, can_cut, cut_from, pieces
from data.tokenizer import Tokenizer
from data.tokenizer_training import SplitPattern, TokenizerKind, TokenizerRules, train_tokenizer
from data.vocabularies import Normalization

CHINESE = "\u4e2d\u6587\u3002\u6c34\u8f66\uff0c\u78e8\u574a\uff01"
TEXTS = [SAMPLE, CHINESE, "def f(x):\n    return x+1  # it's 12345\r\n\tdon't\n"] * 20
WITH = [
    {"pattern": SplitPattern.gpt2},
    {"pattern": SplitPattern.cl100k},
    {"pattern": SplitPattern.o200k},
    *({"kind": TokenizerKind.word, "normalization": each} for each in Normalization),
    *({"kind": TokenizerKind.wordpiece, "normalization": each} for each in Normalization),
    *({"kind": TokenizerKind.unigram, "normalization": each} for each in Normalization),
]
# Where splits differ: white space of every kind, marks, contractions, digits, scripts, combining and odd characters.
characters = st.sampled_from(
    "ab Z1\u0661 \t\n\r  '\u2019sSt,.:;/_#\u3002\uff0c\u4e2d\u6587\u00e9\u0301\u00b4\u00a8\u2017\u200b\x00\x1c"
    "\x85\u00a0\u3000\ufdfa\u0939\u093f\U0001f600\U0002a6d6"
)


def name(rules: dict) -> str:
    return "-".join(each.name for each in rules.values())


@pytest.fixture(scope="module", params=WITH, ids=name)
def each(request) -> Tokenizer:
    rules = TokenizerRules(vocab_size=600, **request.param)
    return train_tokenizer(TEXTS, rules=rules)


@settings(max_examples=200)
@given(text=st.text(characters, max_size=60), size=st.integers(0, 8))
def test_ids_of_the_pieces_are_those_of_the_whole(each, text, size):
    cut = list(pieces(text, size=size))
    assert "".join(cut) == text
    if can_cut(json.loads(each.files()["tokenizer.json"])):
        ids = [id_ for piece in each.encode_batch(cut) for id_ in piece.tolist()]
        assert ids == each.encode(text).tolist()


def test_our_own_tokenizers_can_all_be_cut_but_for_one(each):
    spec = json.loads(each.files()["tokenizer.json"])
    joins_spaces = (spec["normalizer"] or {}).get("type") == "BertNormalizer" and spec["model"][
        "type"
    ] == "Unigram"
    assert can_cut(spec) is not joins_spaces


def test_prose_code_and_chinese_fall_into_pieces_of_about_the_size():
    for text in (TEXTS[2] * 200, CHINESE * 1000, "word " * 3000):
        sizes = [len(piece) for piece in pieces(text, size=500)]
        assert max(sizes[:-1]) < 560
        assert len(sizes) > 5
    assert list(pieces("x" * 5000, size=500)) == ["x" * 5000]


@given(text=st.text(characters, max_size=80), start=st.integers(-1, 300))
def test_the_cut_from_a_byte_is_one_that_pieces_may_be_cut_at(text, start):
    content = text.encode()
    place = cut_from(memoryview(content), start)
    assert min(max(start, 0), len(content)) <= place <= len(content)
    head, tail = content[:place].decode(), content[place:].decode()
    if 0 < place < len(content):
        assert list(pieces(head[-1] + tail[0], size=0)) == [head[-1], tail[0]]


def test_a_cut_far_away_is_found_across_the_windows_of_the_search():
    for gap in (SEARCHED_BYTES - 2, SEARCHED_BYTES - 1, SEARCHED_BYTES, 3 * SEARCHED_BYTES + 1):
        text = "\u00e9" + "x" * gap + " y"
        assert cut_from(memoryview(text.encode()), 1) == 2 + gap
    assert cut_from(memoryview(("\u4e2d" * SEARCHED_BYTES).encode()), 5) == 3 * SEARCHED_BYTES
