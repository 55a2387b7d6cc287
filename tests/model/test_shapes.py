"""Every shipped model shape builds, and its parameters and FLOPs follow from its config alone."""

from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from model.config import RnnConfig, RnnSeq2SeqConfig, config_from_dict
from model.flops import flops_per_pair, flops_per_token, kv_cache_bytes_per_token, num_parameters
from model.registry import build_model

FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
PUBLISHED = {
    "gpt2_124m": 124_439_808,
    "gpt2_medium": 354_823_168,
    "gpt2_large": 774_030_080,
    "gpt2_xl": 1_557_611_200,
    "bert_base": 109_514_298,
    "bert_large": 335_174_458,
    "distilbert": 66_985_530,
    "roberta_base": 124_697_433 - 2 * 768,  # without the two rows of positions that no token uses
    "t5_small": 60_506_624,
    "t5_base": 222_903_552,
    "t5_large": 737_668_096,
    "t5_3b": 2_851_598_336,
    "t5_v1_1_small": 76_961_152,
    "t5_v1_1_base": 247_577_856,
    "t5_v1_1_large": 783_150_080,
    "t5_v1_1_xl": 2_849_757_184,
    "llama_1b": 1_235_814_400,
    "llama_7b": 6_738_415_616,
    "llama_13b": 13_015_864_320,
    "llama_70b": 70_553_706_496,
    "mistral_7b": 7_241_732_096,
    "qwen2_500m": 494_032_768,
    "qwen3_600m": 596_049_920,
    "llama_3b": 3_212_749_824,
    "llama_8b": 8_030_261_248,
}


def read(path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    schema, own = values.pop("defaults")
    assert own == "_self_"
    return config_from_dict({"architecture": schema.removesuffix("_schema"), **values})


def meta_parameters(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config).parameters())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_shape_is_the_size_it_says(path):
    config = read(path)
    assert config.problems() == []
    config = config.with_vocab_size(4096)
    count = num_parameters(config)
    assert count == meta_parameters(config)
    assert count == PUBLISHED.get(path.stem, count)


def test_every_published_shape_is_shipped():
    assert PUBLISHED.keys() <= {path.stem for path in FILES}


def test_parameters_are_counted_from_the_config_alone(any_config):
    assert num_parameters(any_config) == meta_parameters(any_config)


def test_flops_are_those_of_the_forward_pass_three_times(one_stack):
    """torch counts the matrix products of one forward; with an explicit mask it sees all T x T pairs, as PaLM does."""
    with torch.device("meta"):
        model = build_model(one_stack)
        tokens = torch.zeros((2, 12), dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(tokens, **{} if isinstance(one_stack, RnnConfig) else {"document_ids": tokens})
    vectors = sum(
        parameter.numel() for parameter in model.parameters() if parameter.ndim == 1
    )  # no matrix products
    assert flops_per_token(one_stack, 12) == 3 * counter.get_total_flops() / tokens.numel() + 6 * vectors


def test_flops_of_a_pair_are_those_of_the_forward_pass_three_times(pair_config):
    with torch.device("meta"):
        model = build_model(pair_config)
        source, target = torch.zeros((2, 12), dtype=torch.long), torch.zeros((2, 7), dtype=torch.long)
        documents = {"document_ids": source, "decoder_document_ids": target}
        documents = {} if isinstance(pair_config, RnnSeq2SeqConfig) else documents
        with FlopCounterMode(display=False) as counter:
            model(source, target, **documents)
    vectors = {
        of_source: sum(
            each.numel()
            for name, each in model.named_parameters()
            if each.ndim == 1 and (name.startswith("encoder") or "key_value" in name) == of_source
        )
        for of_source in (True, False)
    }
    outside = 6 * (12 * vectors[True] + 7 * vectors[False])
    if isinstance(pair_config, RnnSeq2SeqConfig):  # once for each text: how the decoder begins
        outside -= 6 * (model.begin.weight.numel() + 7 * model.begin.bias.numel())
    assert flops_per_pair(pair_config, 12, 7) == 3 * counter.get_total_flops() / len(source) + outside
    assert flops_per_token(pair_config, 40) == flops_per_pair(pair_config, 40, 40) // 80


def test_the_cache_holds_what_is_counted(config):
    from model.cache import KVCache

    cache = KVCache(config, num_padding=torch.zeros(3, dtype=torch.long), capacity=10, dtype=torch.bfloat16)
    assert cache.keys.nbytes + cache.values.nbytes == 30 * kv_cache_bytes_per_token(config, bytes_per_value=2)
