import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import bpe
from data.errors import DataError
from data.tokenizer import Tokenizer
from data.tokenizer_import import ImportRules, merges_of, read_tokenizer, tokenizer_files
from data.tokenizer_training import SplitPattern, TokenizerKind, TokenizerRules, train_tokenizer

TEXTS = ["def f(x):\n    return x + 1  # caf\u00e9 \u4e2d\u6587\n", "The water's 1234 wheels turn.\n"] * 40


def trained(pattern: SplitPattern) -> Tokenizer:
    return train_tokenizer(TEXTS, rules=TokenizerRules(vocab_size=330, pattern=pattern))


def ranks_of(tokenizer: Tokenizer) -> dict[bytes, int]:
    """As tiktoken counts: the bytes first, then what merges make, without control tokens."""
    spec = json.loads(tokenizer.files()["tokenizer.json"])
    first = len(tokenizer.special_ids)
    special = set(tokenizer.special_ids.values())
    return {token: id_ - first for id_, token in bpe.token_bytes(spec).items() if id_ not in special}


def write_ranks(path, ranks: dict[bytes, int]) -> None:
    path.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ranks.items()))


def read(path, **rules) -> Tokenizer:
    files = {file.name: file.read_bytes() for file in tokenizer_files(path)}
    return read_tokenizer(files, rules=ImportRules(**rules), where=str(path))


@pytest.mark.parametrize("pattern", list(SplitPattern))
def test_ranks_give_the_ids_of_tiktoken_itself(tmp_path, pattern):
    import tiktoken

    original = trained(pattern)
    ranks = ranks_of(original)
    write_ranks(tmp_path / "ours.tiktoken", ranks)
    loaded = read(
        tmp_path / "ours.tiktoken", pattern=pattern, eos_token="<|end|>", special_tokens=["<|user|>"]
    )
    spec = json.loads(original.files()["tokenizer.json"])
    theirs = tiktoken.Encoding("x", pat_str=bpe.split_pattern(spec), mergeable_ranks=ranks, special_tokens={})
    for text in (*TEXTS[:2], bpe.SAMPLE, "<|end|> <|user|>"):
        assert loaded.encode(text).tolist() == theirs.encode_ordinary(text)
        assert loaded.decode(loaded.encode(text)) == text
    assert loaded.encoder == "tiktoken"
    assert loaded.special_ids == {"<|end|>": len(ranks), "<|user|>": len(ranks) + 1}
    assert (loaded.eos_id, loaded.pad_id) == (len(ranks), len(ranks))


def test_the_name_of_ranks_says_how_text_is_split(tmp_path):
    ranks = ranks_of(trained(SplitPattern.cl100k))
    for name in ("cl100k_base.tiktoken", "mine.tiktoken"):
        write_ranks(tmp_path / name, ranks)
    loaded = read(tmp_path / "cl100k_base.tiktoken", eos_token="<|end|>")
    assert json.loads(loaded.files()["tokenizer.json"])["pre_tokenizer"]["pretokenizers"][0]["pattern"] == {
        "Regex": bpe.CL100K_PATTERN
    }
    with pytest.raises(DataError, match="nothing says how mine"):
        read(tmp_path / "mine.tiktoken", eos_token="<|end|>")


@given(st.lists(st.binary(min_size=2, max_size=5), unique=True, max_size=20))
def test_merges_are_found_again_in_any_ranks(tokens):
    """Whatever the ranks, each merge is of two tokens that come before the one that they make."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {token: 256 + k for k, token in enumerate(tokens)}
    for one, other in merges_of(ranks):
        assert max(ranks[one], ranks[other]) < ranks[one + other]


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_the_two_files_of_gpt2_are_read(tmp_path, names):
    original = trained(SplitPattern.gpt2)
    model = json.loads(original.files()["tokenizer.json"])["model"]
    (tmp_path / names[0]).write_text(json.dumps(model["vocab"]))
    lines = [" ".join(pair) for pair in model["merges"]]
    (tmp_path / names[1]).write_text("\n".join(["#version: 0.2", *lines]) + "\n")
    loaded = read(tmp_path, pad_token="<|pad|>")
    assert (loaded.eos_id, loaded.encoder) == (original.eos_id, "tiktoken")
    for text in (*TEXTS[:2], bpe.SAMPLE):
        assert loaded.encode(text).tolist() == original.encode(text).tolist()


@pytest.mark.parametrize("kind", list(TokenizerKind))
def test_a_hugging_face_folder_keeps_its_ids_and_its_template(tmp_path, kind):
    original = train_tokenizer(
        TEXTS, rules=TokenizerRules(kind=kind, vocab_size=500, chat_template="{{ x }}")
    )
    original.save(tmp_path)
    loaded = read(tmp_path, special_tokens=["<|tool|>"])
    for text in (*TEXTS[:2], "<|tool|>"):
        assert loaded.encode(text).tolist() == original.encode(text).tolist()
    assert loaded.special_ids["<|tool|>"] == original.vocab_size
    assert (loaded.chat_template, loaded.unk_id) == ("{{ x }}", original.unk_id)
    assert read(tmp_path).hash == original.hash


def test_a_tokenizer_json_alone_asks_which_token_ends_a_document(tmp_path):
    trained(SplitPattern.cl100k).save(tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    (tmp_path / "tokenizer.json").rename(alone / "tokenizer.json")
    assert read(alone / "tokenizer.json").eos_id == 0
    spec = json.loads((alone / "tokenizer.json").read_text())
    spec["added_tokens"] = []
    spec["model"]["vocab"] = {
        token: id_ - 2 for token, id_ in spec["model"]["vocab"].items() if token[:2] != "<|"
    }
    (alone / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(DataError, match="which token ends a document"):
        read(alone / "tokenizer.json")
    assert read(alone / "tokenizer.json", eos_token="</s>").special_ids.keys() == {"</s>"}


def test_what_is_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(DataError, match="no tokenizer here"):
        tokenizer_files(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(DataError, match="make no tokenizer"):
        read(tmp_path)
    (tmp_path / "x.tiktoken").write_text("not base64 at all\n")
    with pytest.raises(DataError, match="make no tokenizer"):
        read(tmp_path / "x.tiktoken", pattern=SplitPattern.gpt2)
