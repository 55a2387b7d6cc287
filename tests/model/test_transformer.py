"""The first Transformer: outputs and gradients equal those of torch.nn.Transformer, with padding and packing."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.config import TransformerConfig
from model.recompute import Recompute
from model.registry import build_model
from model.transformer import sinusoids

VOCAB, WIDTH, HEADS = 97, 32, 4
CONFIG = TransformerConfig(
    vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=80, num_layers=2, num_heads=HEADS
)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
NAMES = {  # ours: theirs
    "attention.qkv.": "self_attn.in_proj_",
    "attention.output.": "self_attn.out_proj.",
    "cross.output.": "multihead_attn.out_proj.",
    "mlp.up.": "linear1.",
    "mlp.down.": "linear2.",
    "attention_norm.": "norm1.",
}


@pytest.fixture
def model(make_model):
    return make_model(CONFIG)


@pytest.fixture
def reference(model):
    """PyTorch's module with the weights of ours; without the norm after each stack, which the paper has not."""
    shape = {"d_model": WIDTH, "nhead": HEADS, "dim_feedforward": 80, "dropout": 0.0, "batch_first": True}
    module = nn.Transformer(
        **shape,
        custom_encoder=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**shape), 2, enable_nested_tensor=False
        ),
        custom_decoder=nn.TransformerDecoder(nn.TransformerDecoderLayer(**shape), 2),
    )
    module.load_state_dict(in_their_names(dict(model.named_parameters())))
    return module.eval()


def in_their_names(tensors):
    found = {}
    for stack, theirs, last in (("encoder_blocks", "encoder", "norm2."), ("blocks", "decoder", "norm3.")):
        for layer in range(2):
            ours = {
                name.split(".", 2)[2]: each
                for name, each in tensors.items()
                if name.startswith(f"{stack}.{layer}.")
            }
            for kind in ("weight", "bias"):
                for name, other in (NAMES | {"mlp_norm.": last, "cross_norm.": "norm2."}).items():
                    if name + kind in ours:
                        found[f"{theirs}.layers.{layer}.{other}{kind}"] = ours[name + kind]
                if f"cross.query.{kind}" in ours:
                    joined = torch.cat((ours[f"cross.query.{kind}"], ours[f"cross.key_value.{kind}"]))
                    found[f"{theirs}.layers.{layer}.multihead_attn.in_proj_{kind}"] = joined
    return {name: tensor.detach() for name, tensor in found.items()}


def embedded(table, ids):
    """The equations of sections 3.4 and 3.5, position by position."""
    rows = [
        [(math.sin if i % 2 == 0 else math.cos)(p / 10000 ** ((i - i % 2) / WIDTH)) for i in range(WIDTH)]
        for p in range(ids.shape[1])
    ]
    return F.embedding(ids, table) * math.sqrt(WIDTH) + torch.tensor(rows)


def logits_of(reference, table, source, target, padding=None):
    hidden = reference(
        embedded(table, source),
        embedded(table, target),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.shape[1]),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
        tgt_is_causal=True,
    )
    return hidden @ table.T


@pytest.mark.parametrize(("source_len", "target_len"), [(1, 1), (17, 5), (30, 48)])
def test_logits_equal(model, reference, source_len, target_len):
    source, target = torch.randint(VOCAB, (3, source_len)), torch.randint(VOCAB, (3, target_len))
    with torch.no_grad():
        ours, theirs = model(source, target), logits_of(reference, model.embedding.weight, source, target)
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_every_gradient_equal_with_padding(model, reference, smoothing):
    source, target, labels = (
        torch.randint(VOCAB, (3, 30)),
        torch.randint(VOCAB, (3, 20)),
        torch.randint(VOCAB, (3, 20)),
    )
    padding = torch.arange(30) >= torch.tensor([[30], [13], [1]])
    labels[torch.arange(20) >= torch.tensor([[20], [7], [2]])] = -100
    hidden = model.hidden(source, target, attention_mask=~padding)
    ours, _ = model.lm_head(hidden, labels, smoothing=smoothing)
    table = model.embedding.weight.detach().clone().requires_grad_()
    logits = logits_of(reference, table, source, target, padding)
    theirs = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), reduction="sum", label_smoothing=smoothing
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(model.embedding.weight.grad, table.grad, rtol=1e-4, atol=1e-4)
    gradients = in_their_names({name: p.grad for name, p in model.named_parameters()})
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(
            gradients[name], parameter.grad, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_packed_pairs_equal_separate_ones(model):
    sources = [torch.randint(VOCAB, (n,)) for n in (5, 9, 1, 6)]
    targets = [torch.randint(VOCAB, (n,)) for n in (3, 1, 8, 4)]
    packed = model(
        torch.cat(sources)[None],
        torch.cat(targets)[None],
        document_ids=torch.cat([torch.full((len(each),), n) for n, each in enumerate(sources)])[None],
        decoder_document_ids=torch.cat([torch.full((len(each),), n) for n, each in enumerate(targets)])[None],
    )
    separate = [model(a[None], b[None])[0] for a, b in zip(sources, targets, strict=True)]
    torch.testing.assert_close(packed[0], torch.cat(separate), **CLOSE)


def test_activation_checkpointing_changes_no_gradient(model):
    source, target, gradients = torch.randint(VOCAB, (3, 21)), torch.randint(VOCAB, (3, 8)), []
    for recompute in (None, Recompute.full, Recompute.selective):
        model.zero_grad()
        model.activation_checkpointing = recompute
        model(source, target).square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    kept, *others = gradients
    for found, (name, gradient) in product(others, kept.items()):
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-7)


def test_a_shift_of_positions_is_a_rotation():
    """Why the paper chose them: positions p and p + k are related by a map that depends on k alone."""
    here, there = (
        sinusoids(torch.tensor([3, 40]), hidden_size=8),
        sinusoids(torch.tensor([10, 47]), hidden_size=8),
    )
    products = (here * there).sum(-1)
    torch.testing.assert_close(products[0], products[1])
    torch.testing.assert_close(here.square().sum(-1), torch.tensor([4.0, 4.0]))


def test_the_weights_begin_at_glorots_scale():
    model = build_model(TransformerConfig(vocab_size=2000, hidden_size=256, num_layers=1, num_heads=4))
    block = model.blocks[0]
    for matrix, outputs in ((block.attention.qkv, 256), (block.cross.key_value, 256), (block.mlp.up, 2048)):
        assert matrix.weight.std().item() == pytest.approx(math.sqrt(2 / (256 + outputs)), rel=0.02)
        assert not matrix.bias.any()
    assert model.embedding.weight.std().item() == pytest.approx(1 / 16, rel=0.02)


def test_an_odd_width_is_refused():
    (problem,) = TransformerConfig(hidden_size=33, num_heads=3).problems()
    assert problem.field == "hidden_size"
    assert "is odd" in problem.what
