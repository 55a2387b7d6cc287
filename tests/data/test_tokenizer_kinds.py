import json
import os
import subprocess
import sys
from collections import Counter
from math import exp, log

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer
from data.unigram import Lattice, learn_pieces
from data.vocabularies import Normalization

KINDS = list(TokenizerKind)
NEW_KINDS = [kind for kind in KINDS if kind is not TokenizerKind.byte_bpe]
PROSE = [
    "The water runs down the race and turns the wheel of the mill.\n",
    "\tA gate of stone holds the river; the gates hold 12 races, caf\u00e9s and na\u00efve millers.\n",
    "def turning(wheel):\n    return wheel.turned + 1  # turned by water, turned again\n",
    "\u4e2d\u6587\u5b57\u7b26 \u6c34\u8f66 \u6c34\u95f8",
] * 30
CONTROL = "a<|endoftext|> <|pad|> <|user|> [UNK] <unk> <0x41> ##ing"
MARK = "\u2581"  # of unigram: a text with this character comes back with a space


def rules(kind: TokenizerKind, **changes) -> TokenizerRules:
    return TokenizerRules(kind=kind, vocab_size=700, special_tokens=["<|user|>"], **changes)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def each(request) -> Tokenizer:
    return train_tokenizer(PROSE, rules=rules(request.param))


def test_every_kind_learns_and_says_what_it_has(each):
    assert each.vocab_size <= 700
    assert set(each.special_ids) == {"<|endoftext|>", "<|pad|>", "<|user|>"}
    ids = each.encode(PROSE[0])
    assert 3 < len(ids) < len(PROSE[0])
    assert ids.max() < each.vocab_size


@given(text=st.text() | st.sampled_from([CONTROL, *PROSE]))
def test_no_text_spells_a_control_token(each, text):
    ids = each.encode(text + CONTROL)
    assert not set(ids.tolist()) & set(each.special_ids.values())


@pytest.mark.parametrize("kind", [TokenizerKind.wordpiece, TokenizerKind.word])
def test_the_text_of_the_unknown_token_is_ordinary_text(kind):
    texts = [f"{CONTROL} UNK unk [ ] < > " * 3]
    tokenizer = train_tokenizer(texts, rules=rules(kind))
    assert tokenizer.unk_id is not None
    for text in ("[UNK]", "<unk>"):
        assert tokenizer.unk_id not in tokenizer.encode(text).tolist()


def test_what_a_vocabulary_has_not_is_unknown_or_bytes():
    odd = "\u9f98\U0001f600"
    for kind in KINDS:
        tokenizer = train_tokenizer(PROSE, rules=rules(kind))
        ids = tokenizer.encode(f"the {odd} wheel").tolist()
        if kind in (TokenizerKind.byte_bpe, TokenizerKind.unigram):
            assert tokenizer.decode(ids) == f"the {odd} wheel"
            assert tokenizer.unk_id not in ids
        else:
            assert tokenizer.unk_id in ids
            assert tokenizer.decode(ids).split()[::2] == ["the", "wheel"] or ids.count(tokenizer.unk_id) == 2


@given(text=st.text(st.characters(exclude_characters=MARK)) | st.sampled_from([CONTROL, *PROSE]))
def test_a_unigram_text_comes_back_whole(plain_unigram, text):
    assert plain_unigram.decode(plain_unigram.encode(text)) == text


@pytest.fixture(scope="module")
def plain_unigram() -> Tokenizer:
    return train_tokenizer(PROSE, rules=rules(TokenizerKind.unigram, normalization=Normalization.none))


def test_wordpieces_continue_words_and_words_lose_case():
    tokenizer = train_tokenizer(PROSE, rules=rules(TokenizerKind.wordpiece))
    assert tokenizer.decode(tokenizer.encode("THE Caf\u00e9 turned")) == "the cafe turned"
    cased = train_tokenizer(PROSE, rules=rules(TokenizerKind.wordpiece, normalization=Normalization.none))
    assert cased.decode(cased.encode("The caf\u00e9s")) == "The caf\u00e9s"


def test_words_are_the_most_frequent_ones():
    words = TokenizerRules(kind=TokenizerKind.word, vocab_size=6, min_frequency=2)
    tokenizer = train_tokenizer(["b a c a b a rare"], rules=words)
    assert [tokenizer.decode([id_]) for id_ in range(tokenizer.vocab_size)] == [
        "<unk>",
        "a",
        "b",
        "<|endoftext|>",
        "<|pad|>",
    ]
    assert tokenizer.encode("a rare c").tolist() == [1, 0, 0]


def test_training_gives_the_same_bytes_whatever_the_number_of_threads():
    program = (
        "import sys, hashlib; from data.tokenizer_training import *;"
        "texts = [open(path).read() for path in sys.argv[1:]];"
        "made = [train_tokenizer(texts, rules=TokenizerRules(kind=kind, vocab_size=900)) for kind in TokenizerKind];"
        "print([hashlib.sha256(each.files()['tokenizer.json']).hexdigest() for each in made])"
    )
    paths = [json.decoder.__file__, subprocess.__file__]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, *paths],
            env=os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "4", "2")
    }
    assert len(outputs) == 1
    assert len(set(json.loads(outputs.pop().decode().replace("'", '"')))) == len(KINDS)


def test_transformers_loads_each_kind_with_its_ids_and_its_template(tmp_path):
    transformers = pytest.importorskip("transformers")
    template = "{% for message in messages %}<|user|>{{ message['content'] }}<|endoftext|>{% endfor %}"
    for kind in KINDS:
        tokenizer = train_tokenizer(PROSE, rules=rules(kind, chat_template=template))
        tokenizer.save(tmp_path / kind.name)
        loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / kind.name)
        assert len(loaded) == tokenizer.vocab_size
        assert (loaded.eos_token_id, loaded.pad_token_id) == (tokenizer.eos_id, tokenizer.pad_id)
        assert loaded.unk_token_id == tokenizer.unk_id
        for text in (*PROSE[:4], "unseen \u9f98"):
            assert loaded(text)["input_ids"] == tokenizer.encode(text).tolist()
        chat = loaded.apply_chat_template([{"role": "user", "content": "the mill"}], tokenize=False)
        assert chat == "<|user|>the mill<|endoftext|>"
        assert Tokenizer.load(tmp_path / kind.name).chat_template == template


def test_a_chat_template_changes_no_id():
    plain, chatty = (
        train_tokenizer(PROSE, rules=rules(TokenizerKind.word, chat_template=each))
        for each in ("", "{{ x }}")
    )
    assert plain.hash == chatty.hash
    assert plain.files() != chatty.files()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": TokenizerKind.unigram, "vocab_size": 300}, "vocab_size"),
        ({"kind": TokenizerKind.word, "special_tokens": ["<unk>"]}, "special_tokens"),
        ({"normalization": Normalization.nfc}, "normalization"),
        ({"character_coverage": 0.0}, "character_coverage"),
    ],
)
def test_impossible_rules_are_named(changes, field):
    assert [problem.field for problem in TokenizerRules(**changes).problems()] == [field]


def test_unigram_pieces_are_those_that_explain_the_words():
    """Three stems, alone and with two endings: the first three pieces beyond the letters are the stems."""
    stems, endings = ("water", "wheel", "mill"), ("side", "stone")
    counts = Counter({stem + ending: 50 for stem in stems for ending in endings})
    counts.update(dict.fromkeys(stems, 100))
    letters = len(set("".join(counts)))
    pieces = dict(learn_pieces(counts, size=letters + 3))
    assert {piece for piece in pieces if len(piece) > 1} == set(stems)
    assert len(pieces) == letters + 3
    assert all(score < 0 for score in pieces.values())


spelled = st.text("ab\u4e2d\0", min_size=1, max_size=9)


@given(words=st.lists(spelled, min_size=1, unique=True), pieces=st.lists(spelled, min_size=1, unique=True))
def test_unigram_edges_are_all_places_of_all_pieces(words, pieces):
    lattice = Lattice.of(words, pieces)
    first, expected = 0, []
    for number, word in enumerate(words):
        spans = [(start, end) for start in range(len(word)) for end in range(start + 1, len(word) + 1)]
        expected += [
            (number, pieces.index(word[start:end]), first + start, first + end)
            for start, end in spans
            if word[start:end] in pieces
        ]
        first += len(word) + 1
    columns = (lattice.word, lattice.piece, lattice.start, lattice.end)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected


def test_unigram_seeds_leave_out_what_occurs_once():
    """Each word is a piece while there is room for the repeated ones alone."""
    pieces = dict(learn_pieces({"once": 1, "twice": 2}, size=100))
    assert {piece for piece in pieces if len(piece) > 1} <= {
        "twice"[start:end] for start in range(5) for end in range(start + 2, 6)
    }
    assert "twice" in pieces


def test_unigram_expectations_are_those_of_all_ways():
    """Against a sum over every way to write a word, written out."""
    pieces = ["a", "b", "ab", "ba", "aba"]
    scores = np.log(np.array([0.3, 0.2, 0.25, 0.15, 0.1]))

    def ways(word: str) -> list[list[int]]:
        if not word:
            return [[]]
        starts = [k for k, piece in enumerate(pieces) if word.startswith(piece)]
        return [[k, *rest] for k in starts for rest in ways(word[len(pieces[k]) :])]

    words, counts = ["abab", "ba"], np.array([3.0, 2.0])
    expected = np.zeros(len(pieces))
    for word, count in zip(words, counts, strict=True):
        weights = [exp(sum(scores[k] for k in way)) for way in ways(word)]
        for way, weight in zip(ways(word), weights, strict=True):
            for k in way:
                expected[k] += count * weight / sum(weights)
    lattice = Lattice.of(words, pieces)
    np.testing.assert_allclose(lattice.expected(scores, counts), expected, rtol=1e-12)
    best = [max(sum(scores[k] for k in way) for way in ways(word)) for word in words]
    np.testing.assert_allclose(lattice.best(scores), best, rtol=1e-12)
    assert best[0] == pytest.approx(2 * log(0.25))


def test_tokenizers_itself_reads_what_was_learned(each):
    loaded = tokenizers.Tokenizer.from_str(each.files()["tokenizer.json"].decode())
    assert loaded.token_to_id("<|user|>") == each.special_ids["<|user|>"]
