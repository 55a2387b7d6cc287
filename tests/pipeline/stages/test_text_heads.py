"""Heads for whole texts: classes and numbers, measured, replaced and kept."""

import numpy as np
import pytest
import torch

from data.batches import SequencePool
from data.errors import DataError
from data.heldout import EvalPool
from data.shards import TokenShards
from data.tokenizer import Tokenizer
from model.weights import load_model, load_weights
from pipeline.dag.folder import Folder, open_folder
from pipeline.errors import ConfigError
from pipeline.evaluation.scoring import correlation
from pipeline.stages.init_from import Changes, import_weights
from pipeline.training.examples import pool_of_examples
from pipeline.training.objective import Objective
from tests.pipeline.stages.families import MODELS, TEXTS, evaluated, write_examples

NUMBERS = ("-1.5", "0.25", "2")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, family_tokenizer) -> Folder:
    """The same texts as examples whose responses are classes."""
    folder = tmp_path_factory.mktemp("labelled")
    write_examples(folder, family_tokenizer, ("even", "odd"))
    return open_folder(str(folder))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, family_tokenizer) -> Folder:
    """Their responses are numbers."""
    folder = tmp_path_factory.mktemp("numbered")
    write_examples(folder, family_tokenizer, NUMBERS)
    return open_folder(str(folder))


@pytest.mark.parametrize("name", ["classifier", "rnn_classifier", "gpt2_classifier", "llama_classifier"])
def test_a_classifier_is_measured_by_what_it_gets_right(models, labelled, numbered, tmp_path, name):
    report = evaluated(models(name), labelled, tmp_path)
    assert set(report["metrics"]) == {"eval/loss", "eval/accuracy"}
    assert 0 < report["metrics"]["eval/accuracy"] < 1
    assert report["counters"]["targets"] == len(TEXTS)
    with pytest.raises(DataError, match="names none of the 2 classes"):
        evaluated(models(name), numbered, tmp_path)


def test_a_regressor_is_measured_by_its_error_and_its_correlation(models, labelled, numbered, tmp_path):
    report = evaluated(models("regressor"), numbered, tmp_path)
    model = load_model(models("regressor").local())
    pool = EvalPool(labelled_sequences(numbered, Tokenizer.load(models("regressor").local() / "tokenizer")))
    batch = pool.batch(0, rank=0, world_size=1, micro_batch_size=len(TEXTS))
    given = {name: torch.from_numpy(array) for name, array in batch.items() if name != "labels"}
    with torch.inference_mode():
        mask = given["attention_mask"]
        found = model.classifier(model.hidden(given["input_ids"], attention_mask=mask), mask)[:, 0].numpy()
    wanted = np.array([float(NUMBERS[number % len(NUMBERS)]) for number in range(len(TEXTS))])
    assert batch["labels"] == pytest.approx(wanted)
    assert report["metrics"] == {
        "eval/loss": pytest.approx(np.mean((found - wanted) ** 2), rel=1e-4),
        "eval/pearson": pytest.approx(np.corrcoef(found, wanted)[0, 1], abs=1e-4),
    }
    with pytest.raises(DataError, match="is no number"):
        evaluated(models("regressor"), labelled, tmp_path)


def labelled_sequences(tokens: Folder, tokenizer: Tokenizer) -> SequencePool:
    shards = TokenShards([tokens.local() / "tokens-00000.arrow"], tokenizer_hash=tokenizer.hash)
    make = pool_of_examples(Objective.regression, MODELS["regressor"], tokenizer, seq_len=32)
    assert make
    return make(shards)


def test_what_is_constant_correlates_with_nothing():
    assert correlation(3, 6, 3, 12, 5, 6) == 0
    assert correlation(2, 3, 5, 5, 13, 8) == 1


def test_a_model_gets_a_new_head_for_classes_and_keeps_one_that_knows_them(models, tmp_path):
    classes = ["odd", "even"]
    cases = [("bert", False), ("classifier", True), ("rnn_encoder", False), ("rnn_classifier", True)]
    cases += [("gpt2", False), ("gpt2_classifier", True)]
    for name, kept in cases:
        target = tmp_path / name
        import_weights(models(name), open_folder(str(target)), Changes(classes=classes, seed=3))
        config, weights = load_weights(target)
        _, before = load_weights(models(name).local())
        assert (config.classes, config.has_lm_head) == (classes, False)
        body = {key for key in before if not key.startswith(("lm_head.", "classifier."))}
        assert all(torch.equal(weights[key], before[key]) for key in body)
        again = before.get("classifier.output.weight")
        assert (again is not None and torch.equal(weights["classifier.output.weight"], again)) == kept
    with pytest.raises(ConfigError, match="no head that tells classes apart"):
        import_weights(models("t5"), open_folder(str(tmp_path / "t5")), Changes(classes=classes))
