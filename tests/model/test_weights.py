"""Stored weights and exported folders: round trips, and what does not fit is named."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from model.config import GPT2Config, RnnConfig
from model.encoder_decoder import EncoderDecoder
from model.hf import export_hf, import_hf
from model.weights import load_config, load_model, load_weights, save_weights

VOCAB = 97


def test_weights_round_trip(any_model, tmp_path):
    save_weights(tmp_path / "w", any_model.config, any_model.state_dict())
    config, state_dict = load_weights(tmp_path / "w")
    assert config == load_config(tmp_path / "w") == any_model.config
    parameters = dict(any_model.named_parameters())
    assert state_dict.keys() == parameters.keys()
    assert all(torch.equal(state_dict[name], parameters[name]) for name in parameters)
    given = torch.randint(VOCAB, (2 if isinstance(any_model, EncoderDecoder) else 1, 2, 9))
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "w").hidden(*given), any_model.hidden(*given))


def test_equal_weights_are_equal_bytes_in_fp32(any_model, tmp_path):
    for name in ("a", "b"):
        state_dict = dict(reversed(any_model.bfloat16().state_dict().items()))
        save_weights(tmp_path / name, any_model.config, state_dict)
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert {tensor.dtype for tensor in load_file(tmp_path / "a" / "model.safetensors").values()} == {
        torch.float32
    }


def test_tensors_that_do_not_fit_are_named(model, tmp_path):
    state_dict = model.state_dict()
    del state_dict["blocks.1.mlp.down.weight"]
    state_dict["blocks.7.mlp.down.weight"] = torch.zeros(1)
    state_dict["norm.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match="do not fit") as error:
        save_weights(tmp_path, model.config, state_dict)
    for words in (
        "missing: blocks.1.mlp.down.weight",
        "not of this model: blocks.7.mlp.down.weight",
        "norm.weight is [3], expected [32]",
    ):
        assert words in str(error.value)


def test_a_folder_edited_to_another_shape_is_refused(model, tmp_path):
    save_weights(tmp_path, model.config, model.state_dict())
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_layers": 3}))
    with pytest.raises(
        ValueError, match=r"missing: blocks\.2\.attention_norm\.weight.* and \d+ more|missing: blocks\.2"
    ):
        load_weights(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_export_loads_with_no_missing_keys_and_equal_logits(model, tmp_path, dtype):
    export_hf(model.state_dict(), model.config, tmp_path, dtype=dtype, bos_id=1, eos_id=2, pad_id=2)
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.dtype == dtype
    input_ids = torch.randint(VOCAB, (2, 30))
    ours = model.to(dtype).float()  # the same rounding of the weights; then compared in fp32
    with torch.no_grad():
        difference = ours(input_ids) - loaded.float().eval()(input_ids).logits
    assert difference.abs().max() <= 1e-5


def test_an_export_comes_back_bit_for_bit(exportable, tmp_path):
    export_hf(exportable.state_dict(), exportable.config, tmp_path)
    config, state_dict = import_hf(tmp_path)
    assert config.to_dict() | {"head_dim": 0} == exportable.config.to_dict() | {"head_dim": 0}
    parameters = dict(exportable.named_parameters())
    assert state_dict.keys() == parameters.keys()
    assert all(torch.equal(state_dict[name], parameters[name]) for name in parameters)


def test_what_transformers_lacks_is_not_exported(make_model, tmp_path):
    model = make_model(RnnConfig(vocab_size=VOCAB, hidden_size=8))
    with pytest.raises(ValueError, match="rnn models have no counterpart in transformers"):
        export_hf(model.state_dict(), model.config, tmp_path)


@pytest.mark.parametrize("special", [{"bos_id": 1, "eos_id": 2, "pad_id": 3}, {}])
def test_special_tokens_are_those_given(model, tmp_path, special):
    export_hf(model.state_dict(), model.config, tmp_path, **special)
    for read in (AutoConfig.from_pretrained(tmp_path), GenerationConfig.from_pretrained(tmp_path)):
        ids = (read.bos_token_id, read.eos_token_id, read.pad_token_id)
        assert ids == (special.get("bos_id"), special.get("eos_id"), special.get("pad_id"))


def test_several_dtypes_need_one_to_be_asked_for(model, tmp_path):
    state_dict = model.state_dict() | {"norm.weight": model.norm.weight.bfloat16()}
    with pytest.raises(ValueError, match="bfloat16, float32"):
        export_hf(state_dict, model.config, tmp_path)


def test_a_sharded_folder_is_read(model, to_reference, tmp_path):
    to_reference(model).save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").exists()
    _, state_dict = import_hf(tmp_path / "sharded")
    assert all(torch.equal(state_dict[name], value) for name, value in model.named_parameters())


def test_the_published_names_of_gpt2_are_read(make_model, tmp_path):
    model = make_model(
        GPT2Config(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2)
    )
    export_hf(model.state_dict(), model.config, tmp_path)
    file = tmp_path / "model.safetensors"
    stored = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    save_file(stored | {"h.0.attn.bias": torch.ones(1, 1, 4, 4)}, file)
    _, state_dict = import_hf(tmp_path)
    assert torch.equal(state_dict["norm.bias"], model.norm.bias)


def test_missing_and_unknown_tensors_are_named(model, tmp_path):
    export_hf(model.state_dict(), model.config, tmp_path)
    file = tmp_path / "model.safetensors"
    stored = load_file(file)
    gone = next(name for name in stored if "1.mlp" in name)
    stored["extra.weight"] = stored.pop(gone)
    save_file(stored, file)
    with pytest.raises(ValueError, match=rf"missing: {re.escape(gone)}; unknown: \S*extra\.weight"):
        import_hf(tmp_path)


def test_a_pickle_is_refused_with_the_way_out(model, tmp_path):
    export_hf(model.state_dict(), model.config, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin .* is a pickle.*convert it to safetensors"):
        import_hf(tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"model_type": "mamba"},
            'model_type "mamba" cannot be imported; known: gpt2, llama, mistral, ',
        ),
        ({"model_type": "gpt2", "activation_function": "relu"}, "activation_function relu"),
        (
            {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx True",
        ),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias True cannot be imported"),
        (
            {"model_type": "llama", "rope_scaling": {"rope_type": "longrope", "factor": 2.0}},
            "rope_parameters",
        ),
        ({"model_type": "llama", "rope_parameters": {"partial_rotary_factor": 0.5}}, "rope_parameters"),
        ({"model_type": "qwen3", "use_sliding_window": True, "max_window_layers": 3}, "max_window_layers 3"),
    ],
)
def test_a_variant_we_do_not_compute_is_refused(tmp_path, values, words):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=words):
        import_hf(tmp_path)
