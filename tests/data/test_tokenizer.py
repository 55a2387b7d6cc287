import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from data.bpe import LONGEST_SPACE_RUN, SAMPLE
from data.errors import DataError
from data.tokenizer import Tokenizer
from data.tokenizer_training import SplitPattern, TokenizerRules, train_tokenizer

CODE = "def f(x):\n    return x + 1\n\n\nclass A:\n    pass\n" * 20
texts = st.text() | st.text(
    st.sampled_from("ab1 \t\n\r'\u00e9\u4e2d\U0001f600\u3000\u0661_#.sS"), max_size=60
)


@pytest.fixture(scope="module", params=list(SplitPattern))
def each_tokenizer(request) -> Tokenizer:
    rules = TokenizerRules(vocab_size=400, pattern=request.param, special_tokens=["<|user|>"])
    return train_tokenizer([CODE, SAMPLE], rules=rules)


def reference(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    loaded = tokenizers.Tokenizer.from_str(tokenizer.files()["tokenizer.json"].decode())
    loaded.encode_special_tokens = True
    return loaded


@given(text=texts)
def test_ids_are_the_reference_ones_and_decode_to_the_text(each_tokenizer, text):
    assert each_tokenizer.encoder == "tiktoken"
    ids = each_tokenizer.encode(text)
    assert ids.tolist() == reference(each_tokenizer).encode(text).ids
    assert each_tokenizer.decode(ids) == text


def test_ids_are_the_reference_ones_on_source_code(tokenizer, stdlib_documents):
    documents = [document.text for document in stdlib_documents]
    encoded = tokenizer.encode_batch(documents)
    expected = reference(tokenizer).encode_batch(documents)
    assert all(ids.tolist() == other.ids for ids, other in zip(encoded, expected, strict=True))
    assert [tokenizer.decode(ids) for ids in encoded] == documents


def test_the_text_of_a_control_token_is_ordinary_text(each_tokenizer):
    text = "a<|endoftext|>b<|pad|><|user|>"
    ids = each_tokenizer.encode(text)
    assert not set(ids.tolist()) & set(each_tokenizer.special_ids.values())
    assert each_tokenizer.decode(ids) == text
    assert each_tokenizer.special_ids == {"<|endoftext|>": 0, "<|pad|>": 1, "<|user|>": 2}
    assert (each_tokenizer.eos_id, each_tokenizer.pad_id) == (0, 1)
    assert each_tokenizer.decode([0, 2]) == "<|endoftext|><|user|>"


def test_runs_of_white_space_that_overflow_the_fast_encoder_are_encoded(each_tokenizer):
    for run in (" " * 600_000, "x" + "\u3000" * (LONGEST_SPACE_RUN + 1)):
        assert each_tokenizer.decode(each_tokenizer.encode(run)) == run


def test_a_character_cut_in_two_is_exact_as_bytes(each_tokenizer):
    ids = each_tokenizer.encode("\U000f0000")
    assert len(ids) == 4
    assert each_tokenizer.decode(ids[:2]) == "\ufffd"
    assert b"".join(each_tokenizer.decode_bytes([id_]) for id_ in ids).decode() == "\U000f0000"


def test_training_gives_the_same_bytes_whatever_the_number_of_threads():
    program = (
        "import sys; from data.tokenizer_training import *; from data.bpe import SAMPLE;"
        "texts = [open(path).read() for path in sys.argv[1:]];"
        "tokenizer = train_tokenizer([SAMPLE, *texts], rules=TokenizerRules(vocab_size=600));"
        "sys.stdout.buffer.write(tokenizer.files()['tokenizer.json'])"
    )
    paths = [np.lib.format.__file__, json.decoder.__file__, subprocess.__file__]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, *paths],
            env=os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "4")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 1000


def test_a_small_corpus_gives_a_smaller_vocabulary():
    small = train_tokenizer(["a b"], rules=TokenizerRules(vocab_size=5000))
    assert small.vocab_size == 258
    assert small.decode(small.encode("\u00e9 anything")) == "\u00e9 anything"


def test_a_folder_loads_as_it_was_saved(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "one")
    loaded = Tokenizer.load(tmp_path / "one")
    assert loaded.hash == tokenizer.hash
    assert loaded.files() == tokenizer.files()
    assert pickle.loads(pickle.dumps(tokenizer)).encode(CODE).tolist() == loaded.encode(CODE).tolist()


def test_transformers_loads_the_folder_and_encodes_the_same(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (loaded.eos_token_id, loaded.pad_token_id, len(loaded)) == (0, 1, tokenizer.vocab_size)
    for text in (CODE, SAMPLE.replace("<|endoftext|>", "")):
        assert loaded(text)["input_ids"] == tokenizer.encode(text).tolist()
        assert loaded.decode(tokenizer.encode(text).tolist()) == text
    loaded.save_pretrained(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").hash == tokenizer.hash


def test_the_hash_follows_what_decides_ids_and_nothing_else(tokenizer):
    files = tokenizer.files()
    spec = json.loads(files["tokenizer.json"])

    def hash_with(**changes) -> str:
        changed = files | {"tokenizer.json": json.dumps(spec | changes).encode()}
        return Tokenizer.from_files(changed).hash

    assert hash_with() == tokenizer.hash
    assert hash_with(truncation=None) == tokenizer.hash
    assert hash_with(normalizer={"type": "NFC"}) != tokenizer.hash
    fewer = spec["model"] | {"merges": spec["model"]["merges"][:-1]}
    assert hash_with(model=fewer) != tokenizer.hash


def test_what_tiktoken_cannot_do_is_encoded_by_tokenizers_and_said(tokenizer):
    files = tokenizer.files()
    spec = json.loads(files["tokenizer.json"]) | {"normalizer": {"type": "Lowercase"}}
    lower = Tokenizer.from_files(files | {"tokenizer.json": json.dumps(spec).encode()})
    assert (lower.encoder, lower.encoder_note) == ("tokenizers", "it normalizes text")
    assert lower.decode(lower.encode("Some TEXT")) == "some text"


def test_merges_that_tiktoken_would_take_in_another_order_are_found_out():
    """`ab` then `abc` by (ab, c), and `bc` before both: tiktoken merges a + bc, for which there is no merge."""
    rules = TokenizerRules(vocab_size=300)
    files = train_tokenizer([CODE], rules=rules).files()
    spec = json.loads(files["tokenizer.json"])
    vocab = {token: id_ for token, id_ in spec["model"]["vocab"].items() if id_ < 258}
    vocab |= {"bc": 258, "ab": 259, "abc": 260}
    spec["model"] |= {"vocab": vocab, "merges": [["b", "c"], ["a", "b"], ["ab", "c"]]}
    odd = Tokenizer.from_files(files | {"tokenizer.json": json.dumps(spec).encode()})
    expected = reference(odd).encode("abc").ids
    assert (odd.encoder, odd.encoder_note) == ("tokenizers", "its merges do not lead to its token 'abc'")
    swapped = spec["model"] | {"vocab": vocab | {"bc": 259, "ab": 258}}
    unordered = Tokenizer.from_files(
        files | {"tokenizer.json": json.dumps(spec | {"model": swapped}).encode()}
    )
    assert unordered.encoder_note == "its ids are not in the order of its merges"
    assert odd.encode("abc").tolist() == expected


def test_a_folder_without_a_tokenizer_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(DataError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path)


def test_impossible_rules_are_named():
    assert [p.field for p in TokenizerRules(vocab_size=257).problems()] == ["vocab_size"]
    assert [p.field for p in TokenizerRules(special_tokens=["<|pad|>"]).problems()] == ["special_tokens"]
    assert [p.field for p in TokenizerRules(min_frequency=0).problems()] == ["min_frequency"]
    assert TokenizerRules().problems() == []
