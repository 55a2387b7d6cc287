"""Models of every family: measured on held-out tokens, exported to their own class of transformers, and taken back."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from data.batches import SequencePool
from data.errors import DataError
from data.examples import Example, token_format, tokenize_example
from data.heldout import EvalPool
from data.shards import TokenRow, TokenShards, TokenWriter
from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerRules, train_tokenizer
from model.config import (
    BertConfig,
    GPT2Config,
    ModelConfig,
    RnnConfig,
    RnnEncoderConfig,
    RnnSeq2SeqConfig,
    T5Config,
    TransformerConfig,
)
from model.registry import build_model
from model.weights import load_model, load_weights, save_weights
from pipeline.dag.folder import Folder, open_folder
from pipeline.errors import ConfigError
from pipeline.evaluation.scoring import correlation
from pipeline.stages.evaluate import Evaluate, evaluate_model
from pipeline.stages.export import Export, export_model
from pipeline.stages.export import Precision as Written
from pipeline.stages.init_from import files_of, import_weights
from pipeline.training.examples import pool_of_examples
from pipeline.training.objective import Objective

SHAPE = {"hidden_size": 32, "num_layers": 2, "max_seq_len": 64}
HEADS = SHAPE | {"intermediate_size": 64, "num_heads": 4}
MODELS: dict[str, ModelConfig] = {
    "gpt2": GPT2Config(**HEADS),
    "bert": BertConfig(**HEADS),
    "roberta": BertConfig(**HEADS, num_token_types=1),
    "bare": BertConfig(**HEADS, masked_lm_head=False),
    "classifier": BertConfig(**HEADS, masked_lm_head=False, classes=["odd", "even"]),
    "regressor": BertConfig(**HEADS, masked_lm_head=False, classes=["depth"]),
    "roberta_classifier": BertConfig(
        **HEADS, masked_lm_head=False, num_token_types=1, classes=["a", "b", "c"]
    ),
    "t5": T5Config(**HEADS, head_dim=8),
    "transformer": TransformerConfig(**HEADS),
    "rnn": RnnConfig(**SHAPE),
    "rnn_encoder": RnnEncoderConfig(**SHAPE, masked_lm_head=True),
    "rnn_classifier": RnnEncoderConfig(**SHAPE, classes=["odd", "even"]),
    "rnn_seq2seq": RnnSeq2SeqConfig(**SHAPE),
}
IN_TRANSFORMERS = {
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "bare": "BertModel",
    "classifier": "BertForSequenceClassification",
    "regressor": "BertForSequenceClassification",
    "roberta_classifier": "RobertaForSequenceClassification",
    "t5": "T5ForConditionalGeneration",
}
NUMBERS = ("-1.5", "0.25", "2")
TEXTS = [
    f"the wheel of mill number {number} turns by the river, and the gate is {number}" for number in range(30)
]


class Silence:
    def send(self, event: dict) -> None:
        pass


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    rules = TokenizerRules(vocab_size=330, special_tokens=["[MASK]"], num_sentinels=8)
    return train_tokenizer(TEXTS, rules=rules)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory, tokenizer) -> dict[str, Folder]:
    """The same texts as documents, and as examples."""
    root = tmp_path_factory.mktemp("tokens")
    found = {}
    for kind in ("text", "examples"):
        folder = root / kind
        folder.mkdir()
        kept = token_format(tokenizer, has_loss_mask=kind == "examples")
        with TokenWriter(folder / "tokens-00000.arrow", token_format=kept) as writer:
            for number, text in enumerate(TEXTS):
                writer.write(row_of(number, text, tokenizer, kind))
        found[kind] = open_folder(str(folder))
    return found


def row_of(number: int, text: str, tokenizer: Tokenizer, kind: str) -> TokenRow:
    if kind == "examples":
        row = tokenize_example(
            Example(str(number), "made", text + "\n", f"it is {number}"), tokenizer=tokenizer
        )
        assert isinstance(row, TokenRow)
        return row
    ids = tokenizer.encode(text)
    return TokenRow(str(number), "made", len(text.encode()), [*ids.tolist(), tokenizer.eos_id])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, tokenizer) -> Folder:
    """The same texts as examples whose responses are classes."""
    return write_responses(tmp_path_factory.mktemp("labelled"), tokenizer, ("even", "odd"))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, tokenizer) -> Folder:
    """Their responses are numbers."""
    return write_responses(tmp_path_factory.mktemp("numbered"), tokenizer, NUMBERS)


def write_responses(folder: Path, tokenizer: Tokenizer, responses: Sequence[str]) -> Folder:
    kept = token_format(tokenizer, has_loss_mask=True)
    with TokenWriter(folder / "tokens-00000.arrow", token_format=kept) as writer:
        for number, text in enumerate(TEXTS):
            example = Example(str(number), "made", text + "\n", responses[number % len(responses)])
            row = tokenize_example(example, tokenizer=tokenizer)
            assert isinstance(row, TokenRow)
            writer.write(row)
    return open_folder(str(folder))


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokenizer) -> Callable[[str], Folder]:
    """A weights artifact of each family, far from ties between tokens."""
    root = tmp_path_factory.mktemp("models")

    def make(name: str) -> Folder:
        folder = root / name
        if not folder.exists():
            torch.manual_seed(1)
            config = MODELS[name].with_vocab_size(tokenizer.vocab_size)
            state = {
                key: value + 0.2 * torch.randn_like(value)
                for key, value in build_model(config).state_dict().items()
            }
            save_weights(folder, config, state)
            tokenizer.save(folder / "tokenizer")
        return open_folder(str(folder))

    return make


def evaluated(model: Folder, tokens: Folder, output: Path) -> dict:
    names = ["tokens-00000.arrow"]
    settings = Evaluate(seq_len=32, max_new_tokens=4, num_samples=1)
    evaluate_model(model, tokens, names, settings, 2, open_folder(str(output)), Silence())
    return json.loads((output / "report.json").read_text())


def exported(model: Folder, output: Path, precision: Written = Written.fp32) -> dict:
    return export_model(model, Export(precision=precision), "key", {}, open_folder(str(output)))


@pytest.mark.parametrize("name", ["bert", "roberta", "rnn_encoder"])
def test_an_encoder_is_measured_by_its_masked_tokens_and_says_that_this_is_no_likelihood(
    models, tokens, tmp_path, name
):
    report = evaluated(models(name), tokens["text"], tmp_path)
    assert set(report["metrics"]) == {"eval/loss", "eval/accuracy"}
    assert 0 <= report["metrics"]["eval/accuracy"] < 0.5
    assert "pseudo-likelihood" in report["note"]
    assert evaluated(models(name), tokens["text"], tmp_path)["metrics"] == report["metrics"]


@pytest.mark.parametrize("name", ["t5", "transformer", "rnn_seq2seq"])
def test_an_encoder_decoder_is_measured_by_spans_of_text_and_by_responses(models, tokens, tmp_path, name):
    spans = evaluated(models(name), tokens["text"], tmp_path)
    assert set(spans["metrics"]) == {"eval/loss", "eval/perplexity"}
    pairs = evaluated(models(name), tokens["examples"], tmp_path)
    assert set(pairs["metrics"]) == {"eval/loss", "eval/perplexity", "eval/bits_per_byte"}
    assert pairs["counters"]["rows"] == len(TEXTS)


@pytest.mark.parametrize("name", ["classifier", "rnn_classifier"])
def test_a_classifier_is_measured_by_what_it_gets_right(models, labelled, tokens, tmp_path, name):
    report = evaluated(models(name), labelled, tmp_path)
    assert set(report["metrics"]) == {"eval/loss", "eval/accuracy"}
    assert 0 < report["metrics"]["eval/accuracy"] < 1
    assert report["counters"]["targets"] == len(TEXTS)
    with pytest.raises(DataError, match="names none of the 2 classes"):
        evaluated(models(name), tokens["examples"], tmp_path)


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


def test_an_encoder_gets_a_new_head_for_classes_and_keeps_one_that_knows_them(models, tmp_path):
    classes = ["odd", "even"]
    cases = [("bert", False), ("classifier", True), ("rnn_encoder", False), ("rnn_classifier", True)]
    for name, kept in cases:
        target = tmp_path / name
        import_weights(models(name), open_folder(str(target)), None, classes, seed=3)
        config, weights = load_weights(target)
        _, before = load_weights(models(name).local())
        assert (config.classes, config.has_lm_head) == (classes, False)
        body = {key for key in before if not key.startswith(("lm_head.", "classifier."))}
        assert all(torch.equal(weights[key], before[key]) for key in body)
        again = before.get("classifier.dense.weight")
        assert (again is not None and torch.equal(weights["classifier.dense.weight"], again)) == kept
    with pytest.raises(ConfigError, match="no head that tells classes apart"):
        import_weights(models("t5"), open_folder(str(tmp_path / "t5")), None, classes)


def test_an_encoder_without_a_head_cannot_be_measured(models, tokens, tmp_path):
    with pytest.raises(ConfigError, match="no head that predicts tokens"):
        evaluated(models("bare"), tokens["text"], tmp_path)


@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_an_export_is_loaded_by_the_class_of_its_family(models, tmp_path, name):
    found = exported(models(name), tmp_path)
    assert found["metrics"]["max_abs_logit_difference"] < 1e-5
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == [IN_TRANSFORMERS[name]]
    assert "library_name: transformers" in (tmp_path / "README.md").read_text()


def test_a_masked_export_has_a_tokenizer_that_fills_masks(models, tmp_path):
    from transformers import pipeline

    exported(models("bert"), tmp_path)
    (best, *_) = pipeline("fill-mask", model=str(tmp_path), device="cpu")("the wheel of [MASK]")
    assert isinstance(best["token"], int)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(IN_TRANSFORMERS)))
def test_a_family_that_transformers_lacks_is_exported_in_our_own_form(models, tmp_path, name):
    assert exported(models(name), tmp_path)["metrics"]["max_abs_logit_difference"] == 0
    assert "`transformers` has no model of this architecture" in (tmp_path / "README.md").read_text()
    with pytest.raises(ConfigError, match="fp32 weights"):
        exported(models(name), tmp_path, Written.bf16)


@pytest.mark.parametrize("name", MODELS)
def test_an_export_gives_back_the_weights_that_it_was_made_of(models, tmp_path, name):
    exported(models(name), tmp_path / "export")
    import_weights(open_folder(str(tmp_path / "export")), open_folder(str(tmp_path / "again")), None)
    config, weights = load_weights(tmp_path / "again")
    wanted_config, wanted = load_weights(models(name).local())
    assert config.to_dict() == wanted_config.to_dict()
    assert all(torch.equal(weights[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_a_tokenizer_with_more_ids_gives_the_model_more_rows(models, tmp_path, name):
    rules = TokenizerRules(vocab_size=360, special_tokens=[f"<{number}>" for number in range(90)])
    larger = train_tokenizer(TEXTS, rules=rules)
    larger.save(tmp_path / "larger")
    target = open_folder(str(tmp_path / "again"))
    import_weights(models(name), target, open_folder(str(tmp_path / "larger")))
    config, weights = load_weights(tmp_path / "again")
    _, before = load_weights(models(name).local())
    old = before["embedding.weight"]
    assert config.vocab_size == larger.vocab_size > len(old)
    assert torch.equal(weights["embedding.weight"][: len(old)], old)
    assert weights["embedding.weight"][-1] == pytest.approx(old.mean(dim=0), abs=1e-6)
    assert Tokenizer.load(tmp_path / "again/tokenizer").hash == larger.hash


def test_weights_that_cannot_be_begun_from_are_named(models, tmp_path):
    exported(models("bert"), tmp_path / "export")
    path = tmp_path / "export/config.json"
    good = json.loads(path.read_text())

    def refusal(**changes: object) -> ConfigError:
        path.write_text(json.dumps(good | changes))
        with pytest.raises(ConfigError) as caught:
            import_weights(open_folder(str(tmp_path / "export")), open_folder(str(tmp_path / "again")), None)
        assert caught.value.where
        assert caught.value.allowed
        assert caught.value.do
        return caught.value

    assert 'did you mean "bert"' in refusal(model_type="berta").what
    assert "bert.encoder.layer.2.attention.output.LayerNorm.bias" in refusal(num_hidden_layers=3).what
    assert "of another shape" in refusal(intermediate_size=128).what
    (tmp_path / "export/model.safetensors").rename(tmp_path / "export/pytorch_model.bin")
    assert "is a pickle" in refusal().what


def test_what_is_begun_from_is_known_by_its_files(models, tmp_path):
    exported(models("bert"), tmp_path)
    names = [each.name for each in files_of(str(tmp_path))]
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    with pytest.raises(ConfigError, match="nothing to begin from") as caught:
        files_of(str(tmp_path / "absent"))
    assert caught.value.where == "init_from"
