"""The objectives beside the causal one: losses and gradients equal those of transformers; sums add up."""

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, BertForSequenceClassification

from model.config import BertConfig, GPT2Config, LlamaConfig, RnnConfig, RnnEncoderConfig, T5Config
from model.hf.bert import to_hf_config
from model.objectives import OBJECTIVES, Classification, MaskedLM, Pooling, PrefixLM, Regression, Seq2SeqLM

VOCAB = 97
SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
DECODERS = {
    "gpt2": GPT2Config(**SIZES, max_seq_len=40),
    "llama": LlamaConfig(**SIZES, num_kv_heads=2),
    "window": LlamaConfig(**SIZES, num_kv_heads=2, sliding_window=6),
}


def ids(*shape):
    return torch.randint(2, VOCAB, shape)


def gradients_of(module, loss):
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_masked_lm_equals_transformers(make_model, to_reference):
    model = make_model(BertConfig(**SIZES))
    input_ids, labels = ids(3, 20), ids(3, 20)
    mask = (torch.arange(20) < torch.tensor([[20], [9], [1]])).long()
    labels[(torch.rand(3, 20) < 0.8) | (mask == 0)] = -100
    ours = MaskedLM(model)(input_ids, labels, attention_mask=mask)
    theirs = to_reference(model, AutoModelForMaskedLM)(input_ids, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(ours.loss_sum / ours.num_targets, theirs, **CLOSE)
    assert ours.num_targets == (labels >= 0).sum()
    torch.testing.assert_close(ours.by_sequence.sum(), ours.loss_sum.detach())


def test_masked_lm_needs_a_head(make_model):
    with pytest.raises(ValueError, match="rnn_encoder model has no head"):
        MaskedLM(make_model(RnnEncoderConfig(vocab_size=VOCAB, hidden_size=8)))


@pytest.mark.parametrize("batch_of_targets", [0.1, 1.0], ids=["few", "all"])
def test_seq2seq_lm_equals_transformers_and_smooths_in_training_alone(
    make_model, to_reference, batch_of_targets
):
    model = make_model(T5Config(**SIZES, head_dim=8), noise=0.1)
    source, target, labels = ids(3, 20), ids(3, 15), ids(3, 15)
    labels[torch.rand(3, 15) > batch_of_targets] = -100
    labels[0, 0] = 5
    logits = to_reference(model, AutoModelForSeq2SeqLM)(input_ids=source, decoder_input_ids=target).logits
    objective = Seq2SeqLM(model, label_smoothing=0.1)
    for smoothing, mode in ((0.1, objective.train()), (0.0, objective.eval())):
        mode.train(bool(smoothing))
        found = mode(source, target, labels)
        expected = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="sum", label_smoothing=smoothing
        )
        torch.testing.assert_close(found.loss_sum, expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(found.by_sequence.sum(), expected.detach(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_prefix_lm_equals_transformers_with_its_mask(make_model, to_reference, name):
    model, input_ids, labels = make_model(DECODERS[name]), ids(3, 20), ids(3, 20)
    prefix = torch.arange(20) < torch.tensor([[7], [1], [20]])
    seen = torch.ones(20, 20).tril().bool() | prefix[:, None, :]  # [B, T, S]
    mask = torch.zeros(3, 1, 20, 20).masked_fill(~seen[:, None], torch.finfo().min)
    reference = to_reference(model)
    logits = reference(input_ids, attention_mask=mask).logits
    wanted = labels.clone()
    for row, length in enumerate((7, 1, 20)):
        wanted[row, : length - 1] = -100  # whose next token is of the prefix, which all see
    expected = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum")
    found = PrefixLM(model)(input_ids, labels, prefix)
    torch.testing.assert_close(found.loss_sum, expected, rtol=1e-5, atol=1e-4)
    assert found.num_targets == 14 + 20 + 1


@pytest.mark.parametrize("name", DECODERS)
def test_packed_prefixes_equal_separate_ones(make_model, name):
    objective = PrefixLM(make_model(DECODERS[name]))
    documents = [(ids(n + 1), torch.arange(n) < prefix) for n, prefix in ((9, 4), (5, 1), (12, 9))]
    separate = [
        objective(each[None, :-1], each[None, 1:], prefix[None]).loss_sum for each, prefix in documents
    ]
    packed = objective(
        torch.cat([each[:-1] for each, _ in documents])[None],
        torch.cat([each[1:] for each, _ in documents])[None],
        torch.cat([prefix for _, prefix in documents])[None],
        position_ids=torch.cat([torch.arange(len(prefix)) for _, prefix in documents])[None],
        document_ids=torch.cat([torch.full((len(p),), n) for n, (_, p) in enumerate(documents)])[None],
    )
    # in one row the last token of a text comes before the next text's prefix: its label is no target
    last = [
        objective.model(each[None, :-1], prefix_mask=prefix[None])[0, -1] for each, prefix in documents[:2]
    ]
    lost = sum(F.cross_entropy(row, each[-1]) for row, (each, _) in zip(last, documents[:2], strict=True))
    expected = sum(separate) - lost
    torch.testing.assert_close(packed.loss_sum, expected, rtol=1e-5, atol=1e-4)
    gradients = gradients_of(objective, packed.loss_sum)
    for parameter, gradient in gradients_of(objective, expected).items():
        torch.testing.assert_close(gradients[parameter], gradient, rtol=1e-4, atol=1e-4)


def test_a_recurrent_model_sees_no_prefix(make_model):
    with pytest.raises(ValueError, match="rnn model cannot see a prefix"):
        PrefixLM(make_model(RnnConfig(vocab_size=VOCAB, hidden_size=8)))


@pytest.fixture
def bert(make_model):
    return make_model(BertConfig(**SIZES, masked_lm_head=False))


@pytest.mark.parametrize("num_outputs", [1, 5])
def test_classification_and_regression_equal_bert_of_transformers(bert, num_outputs):
    from transformers import BertConfig as Theirs

    reference = BertForSequenceClassification(
        Theirs(**to_hf_config(bert.config, pad_id=None), num_labels=num_outputs)
    )
    objective = (
        Regression(bert, pooling=Pooling.first)
        if num_outputs == 1
        else Classification(bert, num_classes=num_outputs, pooling=Pooling.first)
    )
    from model.hf.families import family_of

    stored = {}
    for ours, source in family_of(bert.config, pad_id=None).sources.items():
        parts = bert.state_dict()[ours].split(source.rows) if source.rows else [bert.state_dict()[ours]]
        stored |= {f"bert.{name}": part for name, part in zip(source.names, parts, strict=True)}
    for kind in ("weight", "bias"):
        stored[f"bert.pooler.dense.{kind}"] = getattr(objective.head.dense, kind)
        stored[f"classifier.{kind}"] = getattr(objective.head.output, kind)
    reference.load_state_dict(stored)
    input_ids, mask = ids(4, 12), (torch.arange(12) < torch.tensor([[12], [5], [1], [7]])).long()
    labels = torch.randn(4) if num_outputs == 1 else torch.randint(num_outputs, (4,))
    theirs = reference.eval()(input_ids, attention_mask=mask, labels=labels).loss
    ours = objective(input_ids, labels, attention_mask=mask)
    torch.testing.assert_close(ours.loss_sum / ours.num_targets, theirs, **CLOSE)
    theirs.backward()
    gradients = gradients_of(objective, ours.loss_sum / ours.num_targets)
    torch.testing.assert_close(
        gradients["model.embedding.weight"], reference.bert.embeddings.word_embeddings.weight.grad, **CLOSE
    )
    torch.testing.assert_close(
        gradients["head.dense.weight"], reference.bert.pooler.dense.weight.grad, **CLOSE
    )


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize(
    "config",
    [
        BertConfig(**SIZES, masked_lm_head=False),
        RnnEncoderConfig(vocab_size=VOCAB, hidden_size=32),
        LlamaConfig(**SIZES, num_kv_heads=2),
        RnnConfig(vocab_size=VOCAB, hidden_size=32),
    ],
    ids=lambda config: config.architecture,
)
def test_padding_changes_no_logits(make_model, config, pooling):
    objective = Classification(make_model(config), num_classes=3, pooling=pooling)
    texts = [ids(n) for n in (4, 9, 1)]
    padded, mask = torch.zeros(3, 9, dtype=torch.long), torch.zeros(3, 9, dtype=torch.long)
    for row, text in enumerate(texts):
        padded[row, : len(text)], mask[row, : len(text)] = text, 1
    alone = torch.cat([objective.logits(text[None]) for text in texts])
    torch.testing.assert_close(objective.logits(padded, mask), alone, **CLOSE)
    assert alone.std(dim=0).min() > 1e-6


def test_rows_that_fill_a_batch_are_no_targets(bert):
    input_ids = ids(4, 6)
    classes, numbers = torch.tensor([2, -100, 0, 1]), torch.tensor([0.5, float("nan"), -1.0, 2.0])
    for objective, labels in (
        (Classification(bert, num_classes=3, pooling=Pooling.mean), classes),
        (Regression(bert, pooling=Pooling.mean), numbers),
    ):
        whole = objective(input_ids, labels)
        parts = [objective(input_ids[n : n + 1], labels[n : n + 1]) for n in range(4)]
        assert whole.num_targets == sum(part.num_targets for part in parts) == 3
        torch.testing.assert_close(whole.loss_sum, sum(part.loss_sum for part in parts), **CLOSE)
        torch.testing.assert_close(
            whole.by_sequence, torch.cat([part.by_sequence for part in parts]), **CLOSE
        )
        assert whole.by_sequence[1] == 0
        assert all(each.isfinite().all() for each in gradients_of(objective, whole.loss_sum).values())


def test_every_objective_has_a_name():
    assert set(OBJECTIVES) == {
        "causal_lm", "prefix_lm", "masked_lm", "seq2seq_lm", "span_corruption", "classification", "regression"
    }  # fmt: skip
