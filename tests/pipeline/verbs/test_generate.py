import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from data.tokenizer import Tokenizer
from model.config import BertConfig, RnnSeq2SeqConfig, T5Config
from model.hf import export_hf
from model.registry import build_model
from model.weights import save_weights


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def export(look):
    return look("show", "export", "--json").json["url"]


PROMPTS = ["def water(x):\n", "The mill", "水 café"]


@pytest.fixture
def reference(export):
    """What transformers writes, greedily, from the exported folder."""
    tokenizer = AutoTokenizer.from_pretrained(export)
    model = AutoModelForCausalLM.from_pretrained(export)
    answers = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(ids, max_new_tokens=20, do_sample=False, pad_token_id=1)
        answers.append(out[0, ids.shape[1] :].tolist())
    return answers


def options(*prompts):
    return ["--json", *(word for prompt in prompts for word in ("--prompt", prompt))]


@pytest.mark.parametrize("form", ["checkpoint", "export", "folder", "copied folder"])
def test_greedy_is_what_transformers_writes(look, export, reference, form, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(export, copy, ignore=shutil.ignore_patterns("manifest.json"))
    ref = {"checkpoint": "base", "export": "export", "folder": export, "copied folder": str(copy)}[form]
    rows = look("generate", ref, *options(*PROMPTS), "--max-new-tokens", "20").rows
    assert [row["token_ids"] for row in rows] == reference
    tokenizer = AutoTokenizer.from_pretrained(export)
    assert [row["prompt_token_ids"] for row in rows] == [tokenizer(prompt).input_ids for prompt in PROMPTS]
    assert [row["text"] for row in rows] == [
        tokenizer.decode([each for each in ids if each != tokenizer.eos_token_id]) for ids in reference
    ]
    assert (rows[0]["fingerprint"] is None) == (form == "copied folder")


def test_a_seed_repeats_what_it_sampled(look):
    def sample(*options_):
        return look("generate", "base", *options("mill"), "--temperature", "1.5", *options_).json["token_ids"]

    assert sample("--seed", "1") == sample("--seed", "1") != sample("--seed", "2")
    greedy = look("generate", "base", *options("mill")).json["token_ids"]
    assert sample("--top-p", "0.000001") == greedy


@pytest.mark.parametrize("narrowest", ["--top-k=1", "--min-p=1", "--top-p=0.000001"])
def test_the_narrowest_sample_is_greedy(look, narrowest):
    greedy = look("generate", "base", *options("mill")).json["token_ids"]
    assert (
        look("generate", "base", *options("mill"), "--temperature=2", narrowest).json["token_ids"] == greedy
    )


@pytest.mark.parametrize(
    ("flags", "theirs"),
    [
        (["--repetition-penalty", "1.5"], {"repetition_penalty": 1.5}),
        (["--num-beams", "3", "--length-penalty", "0.3"], {"num_beams": 3, "length_penalty": 0.3}),
    ],
)
def test_settings_mean_what_they_mean_in_transformers(look, export, flags, theirs):
    ids = AutoTokenizer.from_pretrained(export)("The mill", return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(export)
    out = model.generate(ids, max_new_tokens=20, do_sample=False, pad_token_id=1, **theirs)
    row = look("generate", "base", *options("The mill"), "--max-new-tokens=20", *flags).json
    assert row["token_ids"] == out[0, ids.shape[1] :].tolist()
    assert (
        row["token_ids"]
        != look("generate", "base", *options("The mill"), "--max-new-tokens=20").json["token_ids"]
    )


def test_a_text_ends_an_answer_and_is_not_shown(look):
    free = look("generate", "base", *options("The mill")).json
    stop = free["text"][3:6]
    row = look("generate", "base", *options("The mill"), "--stop", "not there", "--stop", stop).json
    assert row["text"] == free["text"][: free["text"].index(stop)]
    assert row["finish_reason"] == "stop"
    assert row["token_ids"] == free["token_ids"][: len(row["token_ids"])]
    assert look("generate", "base", "--prompt", "The mill", "--stop", stop).out == f"The mill{row['text']}\n"


@pytest.fixture
def with_tokenizer(export, tmp_path):
    """A folder with the tokenizer of the tiny export, and a model of a config beside it."""

    def make(config, *, ours=False):
        torch.manual_seed(0)
        folder = tmp_path / config.architecture
        tokenizer = Tokenizer.load(Path(export))
        model = build_model(config.with_vocab_size(tokenizer.vocab_size))
        tokenizer.save(folder / "tokenizer" if ours else folder)
        if ours:
            save_weights(folder, model.config, model.state_dict())
        else:
            export_hf(
                model.state_dict(), model.config, folder, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id
            )
        return folder

    return make


SMALL = {"hidden_size": 32, "num_layers": 2, "max_seq_len": 48}


def test_an_encoder_decoder_writes_a_target(look, with_tokenizer):
    folder = with_tokenizer(T5Config(**SMALL, intermediate_size=64, num_heads=2, head_dim=16))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    for flags, theirs in ((), {}), (("--num-beams=3",), {"num_beams": 3}):
        said = look("generate", str(folder), *options(*PROMPTS), "--max-new-tokens=12", *flags).rows
        for prompt, row in zip(PROMPTS, said, strict=True):
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            out = model.generate(ids, max_new_tokens=12, do_sample=False, **theirs)[0, 1:].tolist()
            assert row["token_ids"] == out
    assert look("generate", str(folder), "--prompt", "The mill").out.startswith("The mill\n")
    assert "more than this model reads" in look("generate", str(folder), "--prompt", "water " * 100).error()


def test_weights_of_an_encoder_decoder_read_sources_that_end(look, with_tokenizer):
    row = look("generate", str(with_tokenizer(RnnSeq2SeqConfig(**SMALL), ours=True)), *options("mill")).json
    assert row["prompt_token_ids"][-1] == Tokenizer.load(Path("rnn_seq2seq/tokenizer")).eos_id
    assert row["token_ids"]


def test_an_encoder_is_refused(look, with_tokenizer):
    folder = with_tokenizer(BertConfig(**SMALL, intermediate_size=64, num_heads=2))
    assert "a bert model writes no text" in look("generate", str(folder), "--prompt", "x").error()


def test_a_prompt_is_answered_alike_alone_and_among_others(look):
    sampled = ["--temperature", "1", "--seed", "5"]
    together = look("generate", "base", *options("mill", "dam"), *sampled).rows
    assert look("generate", "base", *options("dam"), *sampled).rows == together[1:]


def test_plain_output_is_the_prompt_and_what_follows(look):
    answer = look("generate", "base", *options("The mill")).json["text"]
    said = look("generate", "base", "--prompt", "The mill")
    assert said.out == f"The mill{answer}\n"


def test_a_prompt_comes_from_stdin(look, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("The mill\n"))
    assert look("generate", "base", *options("-")).json["prompt"] == "The mill"


def test_without_a_reference_it_is_the_last_model_trained_and_says_so(look):
    said = look("generate", *options("mill"))
    assert "model: base (pretrain/" in said.err
    assert said.json["model"].startswith("base")


def test_generation_stops_at_any_end_that_the_folder_names(look, export, tmp_path, reference):
    copy = tmp_path / "copy"
    shutil.copytree(export, copy, ignore=shutil.ignore_patterns("manifest.json"))
    end = reference[2][3]
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, end]}))
    row = look("generate", str(copy), *options(PROMPTS[2]), "--max-new-tokens", "20").json
    assert row["token_ids"] == reference[2][: reference[2].index(end) + 1]
    assert row["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["base"], "nothing to continue"),
        (["base", "--prompt", ""], "a prompt is empty"),
        (["base", "--prompt", "water " * 100], "more than this model reads"),
        (["nowhere", "--prompt", "x"], "neither a node"),
        (["./nowhere", "--prompt", "x"], "neither a node"),
        (["tokens", "--prompt", "x"], "is no model, but tokens"),
        (["base", "--prompt", "x", "--temperature", "-1"], "--temperature is -1"),
        (["base", "--prompt", "x", "--temperature", "nan"], "--temperature is nan"),
        (["base", "--prompt", "x", "--top-p", "0"], "--top-p is 0"),
        (["base", "--prompt", "x", "--top-k", "-1"], "--top-k is -1"),
        (["base", "--prompt", "x", "--min-p", "2"], "--min-p is 2"),
        (["base", "--prompt", "x", "--repetition-penalty", "0"], "--repetition-penalty is 0"),
        (["base", "--prompt", "x", "--num-beams", "0"], "--num-beams is 0"),
        (["base", "--prompt", "x", "--num-beams", "2", "--temperature", "1"], "beams are not sampled"),
        (["base", "--prompt", "x", "--length-penalty", "nan"], "--length-penalty is nan"),
        (["base", "--prompt", "x", "--stop", ""], "--stop is"),
        (["base", "--prompt", "x", "--max-new-tokens", "0"], "--max-new-tokens is 0"),
        (["base", "--prompt", "x", "--seed", "-1"], "--seed is -1"),
        (["base", "--prompt", "x", "--seed", "one"], "invalid int value"),
    ],
)
def test_what_cannot_be_generated_is_refused_in_four_parts(look, argv, words):
    assert words in look("generate", *argv).error()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", "no model.safetensors"),
        ("config.json", "holds no model"),
    ],
)
def test_a_folder_that_lacks_something_is_refused(look, export, tmp_path, missing, words):
    copy = tmp_path / "copy"
    shutil.copytree(export, copy, ignore=shutil.ignore_patterns("manifest.json", missing))
    assert words in look("generate", str(copy), "--prompt", "x").error()


def test_a_pickle_is_never_read(look, export, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(export, copy, ignore=shutil.ignore_patterns("manifest.json", "model.safetensors"))
    (copy / "pytorch_model.bin").write_bytes(b"not to be read")
    assert "pickle" in look("generate", str(copy), "--prompt", "x").error()
    assert "pickle" in look("generate", str(copy / "pytorch_model.bin"), "--prompt", "x").error()


def test_damaged_weights_are_refused(look, export, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(export, copy, ignore=shutil.ignore_patterns("manifest.json"))
    (copy / "model.safetensors").write_bytes(b"\x00" * 20)
    assert "cannot be read" in look("generate", str(copy), "--prompt", "x").error()
