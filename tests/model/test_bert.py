"""BERT, RoBERTa and DistilBERT: logits, losses and gradients equal those of transformers, with padding and packing."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, BertForPreTraining

from model.config import BertConfig
from model.hf import export_hf, import_hf
from model.recompute import Recompute
from model.weights import model_from

VOCAB = 97
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def ids(*shape):
    """RoBERTa of transformers reads its padding, here 1, as a token without a position."""
    return torch.randint(2, VOCAB, shape)


@pytest.fixture
def padding():
    """[3, 40]: rows of 40, 23 and 1 tokens."""
    return (torch.arange(40) < torch.tensor([[40], [23], [1]])).long()


@pytest.mark.parametrize("num_tokens", [1, 17, 48])
def test_logits_equal(encoder, to_reference, num_tokens):
    input_ids = ids(3, num_tokens)
    with torch.no_grad():
        ours, theirs = encoder(input_ids), to_reference(encoder, AutoModelForMaskedLM)(input_ids).logits
    assert ours.std() > 0.5
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_loss_and_every_gradient_equal_with_padding(encoder, to_reference, padding, tmp_path):
    reference = to_reference(encoder, AutoModelForMaskedLM)
    input_ids, labels = ids(3, 40), ids(3, 40)
    labels[(torch.rand(3, 40) < 0.8) | (padding == 0)] = -100
    input_ids[padding == 0] = 1
    hidden = encoder.hidden(input_ids, attention_mask=padding)
    ours, losses = encoder.lm_head(hidden, labels)
    logits = reference(input_ids, attention_mask=padding).logits
    theirs = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(encoder.lm_head(hidden)[padding == 1], logits[padding == 1], **CLOSE)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    assert torch.equal(losses == 0, labels.flatten() < 0)
    ours.backward()
    theirs.backward()
    gradients = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    reference.load_state_dict(gradients, strict=False)
    reference.save_pretrained(tmp_path / "gradients")
    _, expected = import_hf(tmp_path / "gradients")
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_token_types_and_positions_equal(make_model, to_reference):
    model = make_model(
        BertConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4)
    )
    types, positions = torch.randint(2, (2, 3, 20)), torch.randint(512, (3, 20))
    input_ids = ids(3, 20)
    reference = to_reference(model, AutoModelForMaskedLM)
    with torch.no_grad():
        ours = model(input_ids, token_type_ids=types[0], position_ids=positions)
        theirs = reference(input_ids, token_type_ids=types[0], position_ids=positions).logits
        other = model(input_ids, token_type_ids=types[1], position_ids=positions)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    assert not torch.allclose(ours, other, **CLOSE)


def test_packed_documents_equal_separate_ones(encoder):
    documents = [ids(n) for n in (5, 9, 1, 6)]
    packed = encoder(
        torch.cat(documents)[None],
        position_ids=torch.cat([torch.arange(len(each)) for each in documents])[None],
        document_ids=torch.cat([torch.full((len(each),), n) for n, each in enumerate(documents)])[None],
    )
    separate = torch.cat([encoder(each[None])[0] for each in documents])
    torch.testing.assert_close(packed[0], separate, **CLOSE)


def test_a_row_of_padding_alone_is_no_nan(encoder):
    hidden = encoder.hidden(ids(2, 7), attention_mask=torch.tensor([[1] * 7, [0] * 7]))
    hidden[0].sum().backward()
    assert hidden.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_activation_checkpointing_changes_no_gradient(encoder):
    input_ids, gradients = ids(3, 21), []
    for recompute in (None, Recompute.full, Recompute.selective):
        encoder.zero_grad()
        encoder.activation_checkpointing = recompute
        encoder(input_ids).square().sum().backward()
        gradients.append(
            {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
        )
    kept, *others = gradients
    for found in others:
        assert found.keys() == kept.keys()
        assert all(torch.equal(found[name], each) for name, each in kept.items())


def test_the_weights_begin_at_the_authors_scale(make_model):
    from model.registry import build_model

    model = build_model(
        BertConfig(vocab_size=2000, hidden_size=256, intermediate_size=512, num_layers=2, num_heads=4)
    )
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name
        else:
            assert parameter.abs().max() <= 0.04, name
            assert parameter[:2].numel() < 1000 or parameter.std().item() == pytest.approx(
                0.0176, rel=0.03
            ), name


def test_their_random_model_imports_with_equal_logits(encoder, to_reference, tmp_path):
    reference = AutoModelForMaskedLM.from_config(to_reference(encoder, AutoModelForMaskedLM).config).eval()
    reference.save_pretrained(tmp_path / "theirs")
    config, state_dict = import_hf(tmp_path / "theirs")
    assert config == encoder.config
    input_ids = ids(2, 20)
    with torch.no_grad():
        ours, theirs = model_from(config, state_dict)(input_ids), reference(input_ids).logits
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_the_positions_of_roberta_follow_the_padding_id(make_model, to_reference):
    config = BertConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_layers=1, num_heads=2, num_token_types=1
    )
    model, input_ids = make_model(config), torch.randint(9, (2, 13))
    with torch.no_grad():
        theirs = to_reference(model, AutoModelForMaskedLM, pad_id=9)(input_ids).logits
        torch.testing.assert_close(model(input_ids), theirs, **CLOSE)


@pytest.mark.parametrize("num_token_types", [0, 1, 2])
def test_an_encoder_without_a_head_gives_their_hidden_states(make_model, tmp_path, num_token_types):
    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4}
    model = make_model(BertConfig(**sizes, num_token_types=num_token_types, masked_lm_head=False))
    export_hf(model.state_dict(), model.config, tmp_path / "ours")
    reference = AutoModel.from_pretrained(tmp_path / "ours").eval()
    input_ids, mask = ids(2, 9), torch.tensor([[1] * 9, [1] * 4 + [0] * 5])
    with torch.no_grad():
        expected = reference(input_ids, attention_mask=mask).last_hidden_state
        ours = model.hidden(input_ids, attention_mask=mask)
    torch.testing.assert_close(ours[mask == 1], expected[mask == 1], **CLOSE)
    reference.save_pretrained(tmp_path / "theirs")  # with a pooler where it has one
    config, state_dict = import_hf(tmp_path / "theirs")
    assert config == model.config
    assert all(torch.equal(state_dict[name], value) for name, value in model.state_dict().items())


def test_the_published_names_of_bert_are_read(make_model, tmp_path):
    """With gamma and beta, the pooler, next-sentence prediction and a stored copy of the head."""
    model = make_model(
        BertConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_layers=1, num_heads=4)
    )
    export_hf(model.state_dict(), model.config, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["BertForPreTraining"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    BertForPreTraining.from_pretrained(tmp_path).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    stored = {}
    for name, tensor in load_file(file).items():
        ending = ".".join(name.split(".")[-2:])
        stored[name.removesuffix(ending) + old.get(ending, ending)] = tensor
    stored["cls.predictions.decoder.weight"] = stored["bert.embeddings.word_embeddings.weight"].clone()
    assert any("gamma" in name for name in stored)
    assert any("seq_relationship" in name for name in stored)
    save_file(stored, file)
    _, state_dict = import_hf(tmp_path)
    assert all(torch.equal(state_dict[name], value) for name, value in model.named_parameters())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "bert", "hidden_act": "relu"}, "hidden_act relu cannot be imported; supported: gelu"),
        ({"model_type": "bert", "is_decoder": True}, "is_decoder True"),
        ({"model_type": "bert", "position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"model_type": "distilbert", "activation": "relu"}, "activation relu"),
    ],
)
def test_a_variant_we_do_not_compute_is_refused(tmp_path, values, words):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=words):
        import_hf(tmp_path)


def test_distilbert_with_another_epsilon_is_not_exported(make_model, tmp_path):
    model = make_model(BertConfig(vocab_size=VOCAB, num_layers=1, norm_eps=1e-5, num_token_types=0))
    with pytest.raises(ValueError, match="norm_eps 1e-05 cannot be exported"):
        export_hf(model.state_dict(), model.config, tmp_path)
