"""Each family of models, trained by its objective: the same on one rank and on two, evaluated and resumed."""

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data.batches import IGNORED
from data.shards import TokenFormat, TokenRow, TokenWriter
from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerRules, train_tokenizer
from model.config import (
    BertConfig,
    GPT2Config,
    LlamaConfig,
    RnnEncoderConfig,
    RnnSeq2SeqConfig,
    T5Config,
    TransformerConfig,
)
from model.objectives import build_objective
from model.registry import build_model
from model.weights import load_config, load_weights
from pipeline.dag.folder import open_folder
from pipeline.errors import ConfigError
from pipeline.training.beginning import check_job
from pipeline.training.config import Packing
from pipeline.training.corpus import open_corpus
from pipeline.training.objective import ARCHITECTURES, DEFAULTS, OF_EXAMPLES, Objective, reported_of
from tests.pipeline.training.launcher import VOCAB_SIZE

HASH = "f" * 16
SHAPE = {"vocab_size": 300, "hidden_size": 32, "num_layers": 2, "max_seq_len": 64}
HEADS = SHAPE | {"intermediate_size": 64, "num_heads": 4}
FAMILIES = {
    "bert": (BertConfig(**HEADS), {}),
    "rnn_encoder": (RnnEncoderConfig(**SHAPE, masked_lm_head=True), {}),
    "t5": (T5Config(**HEADS, head_dim=8), {}),
    "transformer": (TransformerConfig(**HEADS), {"label_smoothing": 0.1}),
    "rnn_seq2seq": (RnnSeq2SeqConfig(**SHAPE), {}),
    "llama": (LlamaConfig(**HEADS, num_kv_heads=2), {"objective": Objective.prefix_lm}),
    "gpt2": (GPT2Config(**HEADS), {"objective": Objective.prefix_lm}),
}
READ_PAIRS = {"gpt2"} | {name for name, objective in DEFAULTS.items() if objective in OF_EXAMPLES}
CHANGES = {"learning_rate": 1e-2, "num_steps": 12, "eval_every_steps": 6}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("control") / "tokenizer"
    rules = TokenizerRules(vocab_size=300, special_tokens=["[MASK]"], num_sentinels=8)
    train_tokenizer(["one two three"], rules=rules).save(folder)
    return open_folder(str(folder))


def write_pairs(path: Path, *, num_rows: int, seed: int):
    """Sources to be said backwards, of different lengths."""
    path.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    kept = TokenFormat(HASH, VOCAB_SIZE, 0, has_loss_mask=True)
    with TokenWriter(path / "tokens-00000.arrow", token_format=kept) as writer:
        for row in range(num_rows):
            source = draw.integers(40, 60, draw.integers(2, 12))
            ids = [*source, *source[::-1], 0]
            mask = [0] * len(source) + [1] * (len(source) + 1)
            writer.write(
                TokenRow(f"pair-{row}", "made.txt", len(source), ids, np.array(mask, dtype=np.uint8))
            )
    return open_folder(str(path))


@pytest.fixture(scope="module")
def make_family_job(make_job, tokenizer, tmp_path_factory) -> Callable:
    root = tmp_path_factory.mktemp("pairs")
    pairs = {
        "train_tokens": {"train": write_pairs(root / "train", num_rows=200, seed=1)},
        "validation_tokens": write_pairs(root / "validation", num_rows=30, seed=2),
        "packing": None,
    }

    def make(name: str, job: dict | None = None, **changes: object):
        model, own = FAMILIES[name]
        parts = {"model": model, "tokenizer": tokenizer} | (pairs if name in READ_PAIRS else {}) | (job or {})
        return make_job(job=parts, **(CHANGES | own | changes))

    return make


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, tokenizer):
    """Texts of low ids or of high ones, with the name of their class behind them."""
    return write_labelled(tmp_path_factory.mktemp("labelled"), tokenizer, ("low", "high"))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, tokenizer):
    """The same texts, with a number behind them."""
    return write_labelled(tmp_path_factory.mktemp("numbered"), tokenizer, ("-1.5", "0.5"))


def write_labelled(path, tokenizer, responses):
    draw = np.random.default_rng(5)
    names = [Tokenizer.load(tokenizer.local()).encode(name).tolist() for name in responses]
    kept = TokenFormat(HASH, VOCAB_SIZE * 4, 0, has_loss_mask=True)
    with TokenWriter(path / "tokens-00000.arrow", token_format=kept) as writer:
        for row in range(120):
            name = names[row % 2]
            text = draw.integers(40, 60, draw.integers(3, 20)) + 100 * (row % 2)
            ids = [*text, *name, 0]
            mask = np.array([0] * len(text) + [1] * (len(name) + 1), dtype=np.uint8)
            writer.write(TokenRow(f"text-{row}", "made.txt", 4, ids, mask))
    folder = open_folder(str(path))
    return {"train_tokens": {"train": folder}, "validation_tokens": folder, "packing": None}


def with_head(name, classes):
    model = FAMILIES[name][0]
    without = {} if model.is_causal else {"masked_lm_head": False}
    return dataclasses.replace(model, **without, classes=classes)


@pytest.mark.parametrize("name", ["bert", "rnn_encoder", "llama"])
def test_a_model_learns_to_tell_texts_apart(here, make_family_job, labelled, name):
    model = with_head(name, ["low", "high"])
    job = make_family_job(name, labelled | {"model": model}, objective=Objective.classification)
    metrics = here.run(job, "run", micro_batch_size=4).metrics
    assert metrics["eval/accuracy"] > 0.9
    assert math.log(2) > metrics["eval/loss"] > 0
    config, weights = load_weights(here.root / "run/output")
    assert config.classes == ["low", "high"]
    assert weights["classifier.output.weight"].shape == (2, 32)
    here.run(job, "parts", micro_batch_size=1)
    assert here.losses("parts") == pytest.approx(here.losses("run"), abs=1e-4)


@pytest.mark.parametrize("name", ["bert", "rnn_encoder", "llama"])
def test_a_model_learns_a_number(here, make_family_job, numbered, name):
    model = with_head(name, ["depth"])
    job = make_family_job(name, numbered | {"model": model}, num_steps=40, objective=Objective.regression)
    metrics = here.run(job, "run", micro_batch_size=4).metrics
    assert {key for key in metrics if key.startswith("eval/")} == {"eval/loss"}
    assert metrics["eval/loss"] < 0.1  # of a variance of 1
    assert load_weights(here.root / "run/output")[1]["classifier.output.weight"].shape == (1, 32)
    here.run(job, "parts", micro_batch_size=1)
    assert here.losses("parts") == pytest.approx(here.losses("run"), abs=1e-4)


def test_one_name_is_a_number_and_several_are_classes(brief):
    def refused(objective, classes):
        model = dataclasses.replace(FAMILIES["bert"][0], classes=classes)
        with pytest.raises(ConfigError) as caught:
            check_job(brief("bert", {"model": model}, objective=objective), vocab_size=VOCAB_SIZE)
        return caught.value.what

    assert "a number that texts have is not named" in refused(Objective.regression, ["a", "b"])
    assert "no classes are named" in refused(Objective.classification, ["a"])


@pytest.fixture(scope="module")
def on_two_ranks(runs, make_family_job):
    """Every family, in small micro batches and with its weights in two parts."""
    orders = [
        runs.order(make_family_job(name), f"{name}-2", micro_batch_size=4, zero_stage=3) for name in FAMILIES
    ]
    runs.run(orders, world_size=2)
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_two_ranks_learn_what_one_does(on_two_ranks, here, make_family_job, name):
    here.run(make_family_job(name), "one", micro_batch_size=8)
    one, two = here.losses("one"), on_two_ranks.losses(f"{name}-2")
    assert two == pytest.approx(one, abs=1e-4)
    assert sum(one[-4:]) < sum(one[:4]) - 1


@pytest.fixture
def brief(make_family_job) -> Callable:
    """A job of a few steps."""

    def make(name: str, job: dict | None = None, **changes: object):
        return make_family_job(
            name, job, **({"num_steps": 6, "eval_every_steps": 3, "warmup_steps": 1} | changes)
        )

    return make


@pytest.mark.parametrize("name", FAMILIES)
def test_an_evaluation_reports_what_the_objective_has(here, brief, name):
    job = brief(name)
    metrics = here.run(job, name, micro_batch_size=4).metrics
    found = {key for key in metrics if key.startswith("eval/")}
    assert found == set(reported_of(job.training.objective_of(job.model)))
    if "eval/perplexity" in found:
        assert metrics["eval/perplexity"] == pytest.approx(math.exp(metrics["eval/loss"]))


@pytest.mark.parametrize("name", ["bert", "t5", "llama"])
def test_a_resumed_run_hides_the_same_tokens(here, brief, name):
    job = brief(name)
    here.run(job, "whole", checkpoint_every_steps=3)
    shutil.copytree(here.root / "whole", here.root / "resumed")
    shutil.rmtree(here.root / "resumed/output")
    shutil.rmtree(here.root / "resumed/scratch/step-00000006")
    here.run(job, "resumed", checkpoint_every_steps=3)
    assert here.weights("resumed") == here.weights("whole")
    assert here.losses("resumed") == here.losses("whole")


@pytest.mark.parametrize("name", ["bert", "transformer"])
def test_accumulated_micro_batches_are_the_full_batch(here, brief, name):
    here.run(brief(name), "full", micro_batch_size=8)
    here.run(brief(name), "parts", micro_batch_size=1)
    assert here.losses("parts") == pytest.approx(here.losses("full"), abs=1e-5)


@pytest.mark.parametrize(("name", "is_prefix"), [("llama", True), ("gpt2", True), ("t5", None)])
def test_what_is_trained_says_how_it_reads_a_prompt_and_goes_on_so(here, brief, name, is_prefix):
    here.run(brief(name), "run")
    config = load_config(here.root / "run/output")
    assert config.to_dict().get("prefix_lm") is is_prefix
    assert brief(name, objective=None).training.objective_of(config) is brief(name).training.objective_of(
        config
    )


def test_a_prompt_is_the_prefix_of_its_example_and_its_response_is_learnt(here, brief):
    job = brief("gpt2")
    batches = open_corpus(job, print).learned.batches
    given = {"rank": 0, "world_size": 1, "micro_step": 0, "micro_batch_size": batches.per_step}
    batch = batches.batch(0, **given)
    num_targets = (batch["labels"] != IGNORED).sum(axis=1)
    responses = num_targets - 1  # it ends the text
    assert (
        batch["prefix_mask"].sum(axis=1).tolist() == responses.tolist()
    )  # which are as long as their prompts
    assert batches.num_targets(0) == num_targets.sum()
    model = build_model(job.model.with_vocab_size(VOCAB_SIZE))
    of_prompts = build_objective("prefix_lm", model)(**{k: torch.from_numpy(v) for k, v in batch.items()})
    assert int(of_prompts.num_targets) == num_targets.sum()


def test_a_masked_model_goes_on_from_its_weights_with_whole_words_in_padded_documents(here, brief):
    job = brief("bert")
    here.run(job, "first")
    whole_words = dataclasses.replace(job.training.masking, whole_words=True)
    going_on = {"initial_weights": here.folders("first")[1], "packing": Packing.pad}
    here.run(brief("bert", going_on, masking=whole_words, learning_rate=1e-6), "second")
    assert abs(here.losses("second")[0] - here.losses("first")[-1]) < 0.5
    assert here.losses("second")[0] < here.losses("first")[0] - 0.2


def test_a_model_that_an_objective_cannot_train_is_refused_before_a_rank_starts(brief):
    with pytest.raises(ConfigError, match="a llama model cannot be trained with masked_lm") as caught:
        check_job(brief("llama", objective=Objective.masked_lm), vocab_size=VOCAB_SIZE)
    assert "bert" in caught.value.allowed


def test_a_tokenizer_without_a_mask_is_refused(here, brief, corpus):
    with pytest.raises(ConfigError, match="no token that stands for a masked one") as caught:
        here.run(brief("bert", {"tokenizer": corpus["tokenizer"]}), "run")
    assert "special_tokens" in caught.value.do
    with pytest.raises(ConfigError, match="0 sentinels") as caught:
        here.run(brief("t5", {"tokenizer": corpus["tokenizer"]}), "run")
    assert "num_sentinels=2" in caught.value.do


def test_every_objective_is_one_that_a_model_has():
    from model.config import CONFIGS
    from model.objectives import OBJECTIVES

    assert {each.name for each in Objective} <= set(OBJECTIVES)
    assert {name for names in ARCHITECTURES.values() for name in names} == set(CONFIGS)
