"""What a training does not begin from: weights of another model or tokenizer, checkpoints of another training."""

import dataclasses

import pytest

from data.tokenizer import Tokenizer
from pipeline.errors import ConfigError, StageFailedError
from pipeline.training.beginning import check_job, check_origin, origin_of
from pipeline.training.config import Precision
from tests.pipeline.training.conftest import tiny_model
from tests.pipeline.training.launcher import VOCAB_SIZE


@pytest.fixture
def trained(here, make_job):
    """A job that begins from the weights of one that has run, with its tokenizer."""
    here.run(make_job(num_steps=1), "first")
    job = make_job()
    own = Tokenizer.load(job.tokenizer.local()).hash
    return dataclasses.replace(job, initial_weights=here.folders("first")[1], tokenizer_hash=own)


def test_weights_of_the_same_model_and_tokenizer_are_taken(trained):
    check_job(trained, vocab_size=VOCAB_SIZE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 64, "num_heads": 8, "num_kv_heads": 4}, "is [96, 32], expected [96, 64]"),
        ({"num_layers": 3}, "missing: "),
        ({"num_layers": 1}, "not of this model: "),
    ],
)
def test_weights_of_another_model_are_refused(trained, change, words):
    job = dataclasses.replace(trained, model=dataclasses.replace(tiny_model(), **change))
    with pytest.raises(ConfigError) as refused:
        check_job(job, vocab_size=VOCAB_SIZE)
    assert "are of another model" in refused.value.what
    assert words in refused.value.what
    assert trained.initial_weights.url in refused.value.where
    assert all((refused.value.allowed, refused.value.do))


def test_weights_of_another_tokenizer_are_refused(trained):
    with pytest.raises(ConfigError) as refused:
        check_job(dataclasses.replace(trained, tokenizer_hash="0" * 16), vocab_size=VOCAB_SIZE)
    assert "another tokenizer" in refused.value.what
    assert "000000000000" in refused.value.what
    assert all(text for _, text in refused.value.parts())


def test_sequences_longer_than_the_model_are_refused(make_job):
    with pytest.raises(ConfigError) as refused:
        check_job(make_job(seq_len=128), vocab_size=VOCAB_SIZE)
    assert "128 tokens do not fit a model of 64" in refused.value.what
    assert all(text for _, text in refused.value.parts())


@pytest.mark.parametrize(
    ("job", "training", "words"),
    [
        ({"model": dataclasses.replace(tiny_model(), num_layers=1)}, {}, "another model: num_layers 2 for 1"),
        ({"tokenizer_hash": "0" * 16}, {}, "another tokenizer: ffffffffffffffff for 0000000000000000"),
        ({}, {"precision": Precision.bf16}, "another precision: fp32 for bf16"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(here, make_job, monkeypatch, job, training, words):
    here.run(make_job(num_steps=2), "run")
    if "tokenizer_hash" in job:  # else the tokens are refused first
        monkeypatch.setattr("pipeline.training.worker.open_corpus", _with_hash_of(make_job()))
    with pytest.raises(StageFailedError) as refused:
        here.run(make_job(job, num_steps=4, **training), "run")
    assert words in refused.value.what
    assert refused.value.what.startswith("the checkpoint of step 2 is of another ")
    assert str(here.root / "run/scratch") in refused.value.where
    assert all((refused.value.allowed, refused.value.do))


def test_a_checkpoint_of_an_older_version_goes_on_and_one_of_a_newer_is_refused(here, make_job):
    job, (scratch, _) = make_job(), here.folders("run")
    origin = origin_of(job)
    del origin["model"]["prefix_lm"]  # a field that came later
    check_origin(job, origin, scratch=scratch, step=2)
    origin["model"]["unheard_of"] = 1
    with pytest.raises(StageFailedError, match="another model: unheard_of 1 for None"):
        check_origin(job, origin, scratch=scratch, step=2)


def _with_hash_of(first):
    from pipeline.training.corpus import open_corpus

    return lambda job, tell: open_corpus(dataclasses.replace(job, tokenizer_hash=first.tokenizer_hash), tell)
