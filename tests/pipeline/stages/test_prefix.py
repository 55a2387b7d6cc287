"""A model that reads prompts whole: measured on examples behind their prompts, exported, and run where we are not."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from model.generation.generate import generate
from model.generation.settings import Generation
from model.weights import load_model, load_weights, save_weights
from pipeline.dag.folder import open_folder
from pipeline.serving.pyfunc import TextGenerator
from pipeline.stages.export import Export, export_model
from tests.pipeline.stages.families import NUMBERED, evaluated, write_examples

PROMPTS = ["the wheel of mill number 7 turns", "mill", "the gate is by the river"]
NEW = 12


@pytest.fixture(scope="module")
def examples(tmp_path_factory, family_tokenizer):
    folder = tmp_path_factory.mktemp("examples")
    rows = write_examples(folder, family_tokenizer, NUMBERED)
    return open_folder(str(folder)), rows


@pytest.fixture(scope="module")
def causal(models, tmp_path_factory, family_tokenizer):
    """The same weights as those of a model that reads from left to right."""
    folder = tmp_path_factory.mktemp("causal")
    config, weights = load_weights(models("prefix_lm").local())
    save_weights(folder, replace(config, prefix_lm=False), weights)
    family_tokenizer.save(folder / "tokenizer")
    return open_folder(str(folder))


@pytest.fixture(scope="module")
def export(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    export_model(models("prefix_lm"), Export(), "key", {}, open_folder(str(folder)))
    return folder


def test_responses_are_measured_behind_a_prompt_that_is_read_whole(models, causal, examples, tmp_path):
    folder, rows = examples
    model = load_model(models("prefix_lm").local())
    loss_sum, num_targets = 0.0, 0
    for row in rows:
        ids = torch.tensor(np.array([row.input_ids]), dtype=torch.long)
        mask = torch.tensor(np.array([row.loss_mask])).bool()
        with torch.no_grad():
            logits = model(ids[:, :-1], prefix_mask=~mask[:, :-1])
        picked = mask[0, 1:]
        loss_sum += float(F.cross_entropy(logits[0, picked], ids[0, 1:][picked], reduction="sum"))
        num_targets += int(picked.sum())
    metrics = evaluated(models("prefix_lm"), folder, tmp_path, seq_len=64)["metrics"]
    assert metrics["eval/loss"] == pytest.approx(loss_sum / num_targets, rel=1e-5)
    assert metrics["eval/bits_per_byte"] > 0
    assert metrics["eval/loss"] != pytest.approx(
        evaluated(causal, folder, tmp_path, seq_len=64)["metrics"]["eval/loss"], rel=1e-3
    )


def test_the_registered_model_reads_prompts_whole_too(models, export, family_tokenizer):
    model = load_model(models("prefix_lm").local())
    ends = {"eos_ids": [family_tokenizer.eos_id]}
    unsaid = set(family_tokenizer.special_ids.values())
    registered = TextGenerator()
    registered.load_context(SimpleNamespace(artifacts={"export": str(export)}))
    for num_beams, prompts in ((1, PROMPTS), (3, PROMPTS), (1, ["m"])):
        ids = [family_tokenizer.encode(prompt).tolist() for prompt in prompts]
        ours = generate(model, ids, Generation(max_new_tokens=NEW, num_beams=num_beams), **ends)
        given = {"max_new_tokens": NEW, "num_beams": num_beams}
        theirs = registered.predict(None, pd.DataFrame(prompts), given)
        kept = [[each for each in row if each not in unsaid] for row in ours]
        assert theirs == [family_tokenizer.decode(row) for row in kept]


def test_the_model_card_shows_how_transformers_reads_a_prompt_whole(models, export, family_tokenizer):
    (code,) = re.findall(r"```python\n(.*?)```", (export / "README.md").read_text(), flags=re.DOTALL)
    found: dict = {}
    exec(code, {"FOLDER": str(export), "PROMPT": PROMPTS[0]}, found)
    ids = family_tokenizer.encode(PROMPTS[0])
    prefix = torch.ones(1, len(ids), dtype=torch.long)
    with torch.no_grad():
        ours = load_model(models("prefix_lm").local())(torch.tensor(ids.tolist())[None], prefix_mask=prefix)
    torch.testing.assert_close(found["logits"], ours, rtol=1e-4, atol=1e-4)
