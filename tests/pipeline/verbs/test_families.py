"""A masked model as a user makes it: pretrained, measured, exported, and continued from the exported folder."""

import json
from pathlib import Path

import pytest

from tests.pipeline.verbs.processes import headrace_process

RECIPE = """\
# @package _global_
defaults:
  - /stage/ingest@stages.corpus
  - /stage/split@stages.split
  - /stage/tokenizer@stages.tokenizer
  - /stage/tokenize@stages.tokens
  - /stage/pretrain@stages.base
  - /model/bert_tiny@stages.base.model
  - /stage/evaluate@stages.score
  - /stage/export@stages.export
  - /stage/finetune@stages.more
  - _self_
stages:
  corpus: {paths: [CORPUS]}
  split: {inputs: {documents: corpus}, rules: {validation_fraction: 0.2, test_fraction: 0.2}}
  tokenizer: {inputs: {documents: split/train}, rules: {vocab_size: 330, special_tokens: ["[MASK]"]}}
  tokens: {inputs: {documents: split, tokenizer: tokenizer}}
  base:
    inputs: {tokens: tokens/train, validation: tokens/validation, tokenizer: tokenizer}
    model: {hidden_size: 32, intermediate_size: 64, num_layers: 2, num_heads: 2, max_seq_len: 64}
    masking: {whole_words: true}
    seq_len: 32
    global_batch_tokens: 128
    num_steps: 4
    warmup_steps: 1
    precision: fp32
  score: {inputs: {model: base, tokens: tokens/test}, seq_len: 32}
  export: {inputs: {model: base}}
  more:
    inputs: {model: export, tokens: tokens/train, validation: tokens/validation}
    seq_len: 32
    global_batch_tokens: 128
    num_steps: 2
    warmup_steps: 1
    precision: fp32
"""


@pytest.fixture
def recipe(make_tiny, tmp_path) -> list[str]:
    corpus = Path(make_tiny().recipe).parent / "corpus"
    (tmp_path / "masked.yaml").write_text(RECIPE.replace("CORPUS", str(corpus)))
    return [f"recipe={tmp_path}/masked.yaml", f"store={tmp_path}/store"]


def test_a_masked_model_is_planned(headrace, recipe):
    said = headrace("plan", "--json", *recipe)
    assert said.code == 0, said.err


def test_an_objective_of_another_family_is_refused_with_what_fits(headrace, recipe):
    error = headrace("plan", *recipe, "stages.base.objective=causal_lm").error()
    assert "a bert model cannot be trained with causal_lm" in error
    assert "where: stages.base.objective" in error
    assert "set objective=masked_lm" in error


def test_a_folder_that_is_not_there_is_refused(headrace, recipe, tmp_path):
    override = ["stages.more.inputs.model=''", f"stages.more.init_from={tmp_path}/absent"]
    assert "there is no folder" in headrace("plan", *recipe, *override).error()
    assert "both set" in headrace("plan", *recipe, override[1]).error()


@pytest.mark.soak
def test_a_masked_model_goes_the_whole_way(headrace, recipe, tmp_path):
    done = headrace_process(tmp_path, "run", "--json", *recipe)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["failed"] == 0

    report = headrace("show", "score", "--json", *recipe).json
    assert set(report["metrics"]) == {"eval/loss", "eval/accuracy"}
    assert set(headrace("show", "base", "--json", *recipe).json["metrics"]) >= {"eval/accuracy"}
    assert headrace("show", "export", "--json", *recipe).json["metrics"]["max_abs_logit_difference"] < 1e-5
    assert headrace("show", "more", "--json", *recipe).json["counters"]["steps"] == 2
    error = headrace("generate", "base", "--prompt", "water", *recipe).error()
    assert "bert" in error

    again = headrace("run", "--json", *recipe).json
    assert again["built"] == 0
    from_folder = ["stages.more.inputs.model=''", f"stages.more.init_from={report_folder(headrace, recipe)}"]
    plan = headrace("plan", "more", "--json", *recipe, *from_folder)
    assert plan.code == 0, plan.err


def report_folder(headrace, recipe) -> str:
    return str(headrace("show", "export", "--json", *recipe).json["url"])
