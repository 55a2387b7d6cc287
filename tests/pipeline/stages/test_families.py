"""Models of every family: measured on held-out tokens, exported to their own class of transformers, and taken back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.examples import token_format
from data.shards import TokenRow, TokenWriter
from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerRules, train_tokenizer
from model.weights import load_weights, save_weights
from pipeline.dag.folder import Folder, open_folder
from pipeline.errors import ConfigError
from pipeline.stages.export import Export, export_model
from pipeline.stages.export import Precision as Written
from pipeline.stages.init_from import Changes, files_of, import_weights
from tests.pipeline.stages.families import MODELS, NUMBERED, TEXTS, evaluated, write_examples

IN_TRANSFORMERS = {
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "bare": "BertModel",
    "classifier": "BertForSequenceClassification",
    "regressor": "BertForSequenceClassification",
    "roberta_classifier": "RobertaForSequenceClassification",
    "gpt2_classifier": "GPT2ForSequenceClassification",
    "llama_classifier": "LlamaForSequenceClassification",
    "t5": "T5ForConditionalGeneration",
    "prefix_lm": "MistralForCausalLM",
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory, family_tokenizer) -> dict[str, Folder]:
    """The same texts as documents, and as examples."""
    root = tmp_path_factory.mktemp("tokens")
    for kind in ("text", "examples"):
        (root / kind).mkdir()
    write_examples(root / "examples", family_tokenizer, NUMBERED)
    kept = token_format(family_tokenizer, has_loss_mask=False)
    with TokenWriter(root / "text/tokens-00000.arrow", token_format=kept) as writer:
        for number, text in enumerate(TEXTS):
            ids = [*family_tokenizer.encode(text).tolist(), family_tokenizer.eos_id]
            writer.write(TokenRow(str(number), "made", len(text.encode()), ids))
    return {kind: open_folder(str(root / kind)) for kind in ("text", "examples")}


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
    import_weights(open_folder(str(tmp_path / "export")), open_folder(str(tmp_path / "again")), Changes())
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
    import_weights(models(name), target, Changes(open_folder(str(tmp_path / "larger"))))
    config, weights = load_weights(tmp_path / "again")
    _, before = load_weights(models(name).local())
    old = before["embedding.weight"]
    assert config.vocab_size == larger.vocab_size > len(old)
    assert torch.equal(weights["embedding.weight"][: len(old)], old)
    assert weights["embedding.weight"][-1] == pytest.approx(old.mean(dim=0), abs=1e-6)
    assert Tokenizer.load(tmp_path / "again/tokenizer").hash == larger.hash


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_ids_that_no_token_has_are_cut_off_if_asked(models, tmp_path, family_tokenizer, name):
    config, weights = load_weights(models(name).local())
    padded = replace(config, vocab_size=config.vocab_size + 50)
    rows = {
        key: torch.cat((each, torch.zeros(50, *each.shape[1:])))
        if key in ("embedding.weight", "lm_head.weight", "lm_head.bias")
        else each
        for key, each in weights.items()
    }
    save_weights(tmp_path / "padded", padded, rows)
    family_tokenizer.save(tmp_path / "padded/tokenizer")
    given = open_folder(str(tmp_path / "padded"))
    for shrink, size in ((False, padded.vocab_size), (True, family_tokenizer.vocab_size)):
        import_weights(given, open_folder(str(tmp_path / "again")), Changes(shrink=shrink))
        found, after = load_weights(tmp_path / "again")
        assert found.vocab_size == size
        assert torch.equal(after["embedding.weight"], rows["embedding.weight"][:size])
    assert all(torch.equal(after[key], each) for key, each in weights.items())


def test_weights_that_cannot_be_begun_from_are_named(models, tmp_path):
    exported(models("bert"), tmp_path / "export")
    path = tmp_path / "export/config.json"
    good = json.loads(path.read_text())

    def refusal(**changes: object) -> ConfigError:
        path.write_text(json.dumps(good | changes))
        with pytest.raises(ConfigError) as caught:
            import_weights(
                open_folder(str(tmp_path / "export")), open_folder(str(tmp_path / "again")), Changes()
            )
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
