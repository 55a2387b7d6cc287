import io
import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


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
