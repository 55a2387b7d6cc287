"""T5, versions 1 and 1.1: logits, loss and gradients equal those of transformers, with padding and packing."""

import json
import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForSeq2SeqLM

from model.config import T5Config
from model.hf import import_hf
from model.recompute import Recompute
from model.registry import build_model
from model.t5 import RelativePositions
from model.weights import model_from

VOCAB = 97
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
V1 = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_layers": 2,
    "num_heads": 4,
    "head_dim": 8,
}
CONFIGS = {
    "v1": T5Config(**V1),
    "v1.1": T5Config(
        **V1 | {"num_heads": 3, "head_dim": 12},
        num_decoder_layers=3,
        gated_mlp=True,
        tie_embeddings=False,
        relative_buckets=8,
        relative_distance=20,
    ),
}


@pytest.fixture(params=CONFIGS)
def model(request, make_model):
    return make_model(CONFIGS[request.param], noise=0.1)  # unscaled scores magnify more into rounding


@pytest.fixture
def reference(model, to_reference):
    return to_reference(model, AutoModelForSeq2SeqLM)


@pytest.mark.parametrize(("source_len", "target_len"), [(1, 1), (17, 5), (30, 48), (300, 9)])
def test_logits_equal(model, reference, source_len, target_len):
    source, target = torch.randint(VOCAB, (3, source_len)), torch.randint(VOCAB, (3, target_len))
    with torch.no_grad():
        ours, theirs = model(source, target), reference(input_ids=source, decoder_input_ids=target).logits
    assert ours.std() > 0.3
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_loss_and_every_gradient_equal_with_padding(model, reference, tmp_path):
    source, target, labels = (
        torch.randint(VOCAB, (3, 30)),
        torch.randint(VOCAB, (3, 20)),
        torch.randint(VOCAB, (3, 20)),
    )
    padding = (torch.arange(30) < torch.tensor([[30], [13], [1]])).long()
    labels[torch.arange(20) >= torch.tensor([[20], [7], [2]])] = -100
    ours, _ = model.lm_head(model.hidden(source, target, attention_mask=padding), labels)
    logits = reference(input_ids=source, attention_mask=padding, decoder_input_ids=target).logits
    theirs = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    ours.backward()
    theirs.backward()
    gradients = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    reference.load_state_dict(gradients, strict=False)
    reference.save_pretrained(tmp_path / "gradients")
    _, expected = import_hf(tmp_path / "gradients")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_their_random_model_imports_with_equal_logits(model, reference, tmp_path):
    theirs = AutoModelForSeq2SeqLM.from_config(reference.config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    config, state_dict = import_hf(tmp_path / "theirs")
    assert config == model.config
    source, target = torch.randint(VOCAB, (2, 20)), torch.randint(VOCAB, (2, 11))
    with torch.no_grad():
        ours = model_from(config, state_dict)(source, target)
        torch.testing.assert_close(ours, theirs(input_ids=source, decoder_input_ids=target).logits, **CLOSE)


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


def test_a_token_of_the_target_sees_none_after_it(model):
    source, target = torch.randint(VOCAB, (1, 6)), torch.randint(VOCAB, (1, 10))
    before = model(source, target)
    target[0, 6:] = (target[0, 6:] + 1) % VOCAB
    torch.testing.assert_close(model(source, target)[0, :6], before[0, :6], **CLOSE)


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


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (4, 3)])
def test_buckets_are_exact_near_and_one_far_away(both_ways, buckets, distance):
    positions = RelativePositions(
        T5Config(**V1, relative_buckets=buckets, relative_distance=distance), both_ways=both_ways
    )
    found = positions.bucket(torch.arange(-200, 1)).flip(0)  # of keys 0, 1, 2, … tokens back
    half = buckets // 2 if both_ways else buckets
    assert found[: half // 2].tolist() == list(range(half // 2))
    assert (found.diff() >= 0).all()
    assert (found[distance:] == half - 1).all()
    ahead = positions.bucket(torch.arange(1, 200))
    assert torch.equal(ahead, found[1:200] + half if both_ways else torch.zeros_like(ahead))


def test_the_first_loss_is_near_that_of_a_uniform_guess_and_scales_are_the_authors():
    config = T5Config(
        vocab_size=500,
        hidden_size=256,
        intermediate_size=512,
        num_layers=2,
        num_heads=4,
        tie_embeddings=False,
    )
    torch.manual_seed(0)
    model = build_model(config)
    with torch.no_grad():
        logits = model(torch.randint(500, (4, 30)), torch.randint(500, (4, 30)))
    loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(500, (120,)))
    assert loss.item() == pytest.approx(math.log(500) + 0.5, abs=0.3)  # logits of variance 1
    assert model.lm_head.weight.std().item() == pytest.approx(256**-0.5, rel=0.02)
    query, key, value = model.blocks[0].attention.qkv.weight.chunk(3)
    assert query.std().item() == pytest.approx((256 * 64) ** -0.5, rel=0.02)
    assert key.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert value.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert model.blocks[0].mlp.down.weight.std().item() == pytest.approx(512**-0.5, rel=0.02)
    assert model.embedding.weight.std().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("config", "field", "what"),
    [
        (T5Config(relative_buckets=7), "relative_buckets", "cannot be halved"),
        (T5Config(relative_buckets=2), "relative_buckets", "cannot be halved"),
        (T5Config(relative_distance=16), "relative_distance", "within the buckets of exact distances"),
        (T5Config(num_decoder_layers=0), "num_decoder_layers", "is 0"),
    ],
)
def test_a_wrong_setting_is_named(config, field, what):
    (problem,) = config.problems()
    assert problem.field == field
    assert what in problem.what


def test_a_variant_we_do_not_compute_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "feed_forward_proj": "gated-silu"}))
    with pytest.raises(ValueError, match="feed_forward_proj gated-silu cannot be imported"):
        import_hf(tmp_path)
