"""Activations that are counted from a config, against those that autograd keeps of a real forward pass."""

from dataclasses import replace

import pytest

from model.config import (
    BertConfig,
    Cell,
    GPT2Config,
    LlamaConfig,
    ModelConfig,
    RnnConfig,
    RnnEncoderConfig,
    RnnSeq2SeqConfig,
    T5Config,
    TransformerConfig,
)
from pipeline.dag.resources import Recomputation
from pipeline.training.config import Precision, TrainingConfig, split_batch
from pipeline.training.memory import memory_of_rank
from pipeline.training.objective import Objective

SMALL = {"vocab_size": 64, "hidden_size": 128, "num_layers": 3, "max_seq_len": 256}
HEADS = SMALL | {"intermediate_size": 320, "num_heads": 4}
FAMILIES: dict[str, tuple[ModelConfig, Objective]] = {
    "gpt2": (GPT2Config(**HEADS), Objective.causal_lm),
    "llama": (LlamaConfig(**HEADS, num_kv_heads=2), Objective.causal_lm),
    "qwen3": (LlamaConfig(**HEADS, num_kv_heads=2, qk_norm=True), Objective.causal_lm),
    "bert": (BertConfig(**HEADS), Objective.masked_lm),
    "transformer": (TransformerConfig(**HEADS), Objective.seq2seq_lm),
    "t5": (T5Config(**HEADS, head_dim=32), Objective.seq2seq_lm),
    "t5-v1.1": (T5Config(**HEADS, head_dim=32, gated_mlp=True, num_decoder_layers=2), Objective.seq2seq_lm),
    **{f"rnn-{cell.name}": (RnnConfig(**SMALL, cell=cell), Objective.causal_lm) for cell in Cell},
    **{
        f"rnn_encoder-{cell.name}": (
            RnnEncoderConfig(**SMALL, cell=cell, masked_lm_head=True),
            Objective.masked_lm,
        )
        for cell in Cell
    },
    "rnn_seq2seq": (RnnSeq2SeqConfig(**SMALL), Objective.seq2seq_lm),
}
BATCH, TOKENS = 2, 192


def loss_of(config, objective, precision, recompute=None, **more):
    """A forward pass of the whole objective, ready to be called, and its weights."""
    import torch

    from model.objectives import build_objective
    from model.registry import build_model

    model = build_model(config)
    model.activation_checkpointing = recompute
    module = build_objective(objective.name, model)
    module.to(torch.float32 if precision is Precision.fp32 else torch.bfloat16)
    num_inputs = 3 if objective is Objective.seq2seq_lm else 2
    given = [torch.randint(1, 60, (BATCH, TOKENS)) for _ in range(num_inputs)]
    return (lambda: module(*given, **more)), list(module.parameters())


def counted_activations(config, objective, precision, recomputation=Recomputation.none, **settings):
    training = TrainingConfig(
        seq_len=TOKENS,
        global_batch_tokens=BATCH * TOKENS,
        precision=precision,
        objective=objective,
        **settings,
    )
    split = split_batch(training, world_size=1, micro_batch_size=BATCH)
    memory = memory_of_rank(config, training, split, zero_stage=1, recomputation=recomputation)
    return memory.activations


def kept_by(forward, parameters):
    """Bytes that saved-tensor hooks see of a real forward pass, weights apart."""
    import torch

    weights = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward()
    del loss
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
@pytest.mark.parametrize("name", FAMILIES)
def test_activations_are_what_autograd_keeps(name, precision):
    config, objective = FAMILIES[name]
    measured = kept_by(*loss_of(config, objective, precision))
    assert counted_activations(config, objective, precision) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_a_mask_of_documents_is_kept_once_for_all_layers(name):
    import torch

    config, objective = FAMILIES[name]
    documents = (torch.arange(TOKENS) // 50).repeat(BATCH, 1)
    plain = loss_of(config, objective, Precision.bf16)
    masked = loss_of(config, objective, Precision.bf16, document_ids=documents)
    more = kept_by(*masked) - kept_by(*plain)
    counted = counted_activations(config, objective, Precision.bf16, mask_documents=True)
    counted -= counted_activations(config, objective, Precision.bf16)
    assert counted == 2 * BATCH * TOKENS**2
    assert more == pytest.approx(counted, rel=0.15)


def living_bytes():
    """Of all tensors that Python can see; what a compiler has left behind has no memory."""
    import gc

    import torch

    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if type(each) in (torch.Tensor, torch.nn.Parameter):
            storage = each.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("recomputation", [Recomputation.selective, Recomputation.full])
@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith("rnn")])
def test_what_recomputation_keeps_of_a_block_is_alive_after_the_forward_pass(name, recomputation):
    """By the difference between a deep model and a shallow one: nothing else grows with the layers."""
    import torch

    from model.recompute import Recompute

    config, objective = FAMILIES[name]
    alive, counted = [], []
    for num_layers in (3, 7):
        deep = replace(config, num_layers=num_layers)
        forward, _ = loss_of(deep, objective, Precision.bf16, Recompute[recomputation.name])
        before = living_bytes()
        loss = forward()
        num_blocks = num_layers * (2 if name in ("t5", "transformer") else 1)
        random = num_blocks * torch.get_rng_state().nbytes  # torch's checkpoint keeps it for each block
        alive.append(living_bytes() - before - random)
        del loss
        counted.append(counted_activations(deep, objective, Precision.bf16, recomputation))
    assert counted[1] - counted[0] == pytest.approx(alive[1] - alive[0], rel=0.05)
