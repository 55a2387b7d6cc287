"""Recurrent networks: equal to PyTorch's own modules and to the published equations, packed, padded and cached."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from model.config import Cell, RnnConfig, RnnEncoderConfig, RnnSeq2SeqConfig
from model.objectives import CausalLM
from model.recompute import Recompute
from model.registry import build_model

VOCAB, WIDTH = 97, 24
SIZES = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_layers": 3, "max_seq_len": 48}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
THEIRS = {Cell.lstm: nn.LSTM, Cell.gru: nn.GRU, Cell.vanilla: nn.RNN}


@pytest.fixture(params=Cell, ids=lambda cell: cell.name)
def cell(request):
    return request.param


@pytest.fixture
def model(cell, make_model):
    return make_model(RnnConfig(**SIZES, cell=cell))


@pytest.fixture
def encoder(cell, make_model):
    return make_model(RnnEncoderConfig(**SIZES, cell=cell))


@pytest.fixture
def seq2seq(cell, make_model):
    return make_model(RnnSeq2SeqConfig(**SIZES, cell=cell))


def stacked(blocks, cell, *, both_ways=False):
    """PyTorch's module of several layers with the weights of ours."""
    width = WIDTH // 2 if both_ways else WIDTH
    module = THEIRS[cell](WIDTH, width, num_layers=len(blocks), batch_first=True, bidirectional=both_ways)
    module.load_state_dict({
        name.replace("_l0", f"_l{layer}"): tensor
        for layer, block in enumerate(blocks) for name, tensor in block.cell.state_dict().items()
    })  # fmt: skip
    return module


@pytest.mark.parametrize("num_tokens", [1, 17, 60])
def test_logits_loss_and_gradients_equal_those_of_pytorch(model, cell, num_tokens):
    reference = stacked(model.blocks, cell)
    input_ids, labels = torch.randint(VOCAB, (2, 3, num_tokens)).unbind()
    labels[0, 0] = -100
    table = model.embedding.weight.detach().clone().requires_grad_()
    logits = reference(F.embedding(input_ids, table))[0] @ table.T
    torch.testing.assert_close(model(input_ids), logits, **CLOSE)
    ours = CausalLM(model)(input_ids, labels).loss_sum
    theirs = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(model.embedding.weight.grad, table.grad, rtol=1e-4, atol=1e-4)
    for layer, block in enumerate(model.blocks):
        for name, parameter in block.cell.named_parameters():
            expected = getattr(reference, name.replace("_l0", f"_l{layer}")).grad
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-4)


def step(cell, x, state, weights):
    """The equations of the papers, one token at a time."""
    of_input = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
    of_state = state[0] @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
    if cell is Cell.vanilla:
        return [torch.tanh(of_input + of_state)]
    if cell is Cell.lstm:
        i, f, g, o = (of_input + of_state).chunk(4, dim=-1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return [o.sigmoid() * c.tanh(), c]
    (r, z, n), (r_state, z_state, n_state) = of_input.chunk(3, dim=-1), of_state.chunk(3, dim=-1)
    z = (z + z_state).sigmoid()
    n = (n + (r + r_state).sigmoid() * n_state).tanh()
    return [(1 - z) * n + z * state[0]]


def test_hidden_states_are_those_of_the_published_equations(model, cell):
    input_ids = torch.randint(VOCAB, (2, 9))
    with torch.no_grad():
        x = model.embedding(input_ids)
        for block in model.blocks:
            state, out, weights = [torch.zeros(2, WIDTH)] * 2, [], block.cell.state_dict()
            for token in x.unbind(1):
                state = step(cell, token, state, weights)
                out.append(state[0])
            x = torch.stack(out, dim=1)
        torch.testing.assert_close(model.hidden(input_ids), x, **CLOSE)


def test_packed_documents_equal_separate_ones(model):
    documents = [torch.randint(VOCAB, (n + 1,)) for n in (5, 9, 1, 6)]
    separate = sum(CausalLM(model)(each[None, :-1], each[None, 1:]).loss_sum for each in documents)
    separate.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    ids = torch.cat([torch.full((len(each) - 1,), n) for n, each in enumerate(documents)])
    packed = CausalLM(model)(
        torch.cat([each[:-1] for each in documents])[None].expand(2, -1),
        torch.cat([each[1:] for each in documents])[None].expand(2, -1),
        document_ids=ids[None].expand(2, -1),
    )
    torch.testing.assert_close(packed.loss_sum, 2 * separate, rtol=1e-5, atol=1e-4)
    packed.loss_sum.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * expected[name], rtol=1e-4, atol=1e-4)


def test_generation_keeps_the_state_and_skips_the_padding(model, write):
    prompts = [[5, 6, 7, 8, 9, 10, 11], [3], [90, 91, 92, 93]]
    together = write(model, prompts, max_new_tokens=20)
    for prompt, answer in zip(prompts, together, strict=True):
        assert answer == write(model, [prompt], max_new_tokens=20)[0]
        logits = model(torch.tensor([prompt + answer]))[0]
        assert answer == logits[len(prompt) - 1 : -1].argmax(-1).tolist()


def test_the_encoder_equals_pytorch_with_padding(encoder, cell):
    input_ids, lengths = torch.randint(VOCAB, (3, 20)), torch.tensor([20, 1, 13])
    mask = torch.arange(20) < lengths[:, None]
    reference = stacked(encoder.blocks, cell, both_ways=True)
    with torch.no_grad():
        packed = pack_padded_sequence(
            encoder.embedding(input_ids), lengths, batch_first=True, enforce_sorted=False
        )
        expected, _ = pad_packed_sequence(reference(packed)[0], batch_first=True)
        torch.testing.assert_close(encoder.hidden(input_ids, attention_mask=mask), expected, **CLOSE)


def test_the_encoder_reads_padding_on_either_side_and_packed_documents(encoder):
    documents = [torch.randint(VOCAB, (n,)) for n in (5, 9, 1)]
    separate = [encoder.hidden(each[None])[0] for each in documents]
    padded, mask = torch.zeros(2, 20, dtype=torch.long), torch.zeros(2, 20)
    ids = torch.zeros(2, 20, dtype=torch.long)
    padded[0, 2:7], padded[0, 7:16], padded[1, 19] = documents
    mask[0, 2:16] = mask[1, 19] = 1
    ids[0, 7:] = 1
    hidden = encoder.hidden(padded, attention_mask=mask, document_ids=ids)
    for ours, expected in zip((hidden[0, 2:7], hidden[0, 7:16], hidden[1, 19:]), separate, strict=True):
        torch.testing.assert_close(ours, expected, **CLOSE)
    assert not hidden[mask == 0].any()


def test_the_encoder_decoder_is_luongs(seq2seq, cell):
    """Against its equations, with the recurrences of PyTorch."""
    source, target = torch.randint(VOCAB, (2, 11)), torch.randint(VOCAB, (2, 7))
    with torch.no_grad():
        memory, _ = stacked(seq2seq.encoder_blocks, cell, both_ways=True)(seq2seq.embedding(source))
        begin = (
            torch.tanh(seq2seq.begin(memory[:, 0, WIDTH // 2 :]))
            .view(2, 3, WIDTH)
            .transpose(0, 1)
            .contiguous()
        )
        state = (begin, torch.zeros_like(begin)) if cell is Cell.lstm else begin
        h, _ = stacked(seq2seq.blocks, cell)(seq2seq.embedding(target), state)
        weights = torch.softmax(h @ seq2seq.score.weight.T @ memory.transpose(1, 2), dim=-1)
        attended = torch.tanh(torch.cat((weights @ memory, h), dim=-1) @ seq2seq.attended.weight.T)
        expected = attended @ seq2seq.embedding.weight.T
        torch.testing.assert_close(seq2seq(source, target), expected, **CLOSE)


def test_pairs_padded_or_packed_equal_separate_ones(seq2seq):
    sources = [torch.randint(VOCAB, (n,)) for n in (5, 9, 1)]
    targets = [torch.randint(VOCAB, (n,)) for n in (3, 1, 8)]
    separate = [seq2seq(a[None], b[None])[0] for a, b in zip(sources, targets, strict=True)]
    packed = seq2seq(
        torch.cat(sources)[None],
        torch.cat(targets)[None],
        document_ids=torch.cat([torch.full((len(each),), n) for n, each in enumerate(sources)])[None],
        decoder_document_ids=torch.cat([torch.full((len(each),), n) for n, each in enumerate(targets)])[None],
    )
    torch.testing.assert_close(packed[0], torch.cat(separate), **CLOSE)
    for left in (False, True):
        source, mask, target = torch.zeros(3, 9).long(), torch.zeros(3, 9), torch.zeros(3, 8).long()
        for row, (a, b) in enumerate(zip(sources, targets, strict=True)):
            columns = slice(9 - len(a), 9) if left else slice(len(a))
            source[row, columns], mask[row, columns], target[row, : len(b)] = a, 1, b
        padded = seq2seq(source, target, attention_mask=mask)
        for row, expected in enumerate(separate):
            torch.testing.assert_close(padded[row, : len(expected)], expected, **CLOSE)


@pytest.mark.parametrize("kind", [RnnConfig, RnnSeq2SeqConfig])
def test_activation_checkpointing_changes_no_gradient(make_model, kind):
    model, gradients = make_model(kind(**SIZES)), []
    given = torch.randint(VOCAB, (1 if kind is RnnConfig else 2, 3, 12))
    for recompute in (None, Recompute.full, Recompute.selective):
        model.zero_grad()
        model.activation_checkpointing = recompute
        model(*given).square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    kept, *others = gradients
    for found, (name, gradient) in product(others, kept.items()):
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-7)


def test_an_lstm_begins_by_remembering():
    model = build_model(RnnConfig(vocab_size=500, hidden_size=256, num_layers=1))
    weights = model.blocks[0].cell.state_dict()
    i, f, g, o = weights["bias_ih_l0"].chunk(4)
    assert (f == 1).all()
    assert not torch.cat((i, g, o, weights["bias_hh_l0"])).any()
    assert weights["weight_hh_l0"].std().item() == pytest.approx(
        (3 * 256) ** -0.5, rel=0.02
    )  # of U(-a, a): a / sqrt 3
    assert model.embedding.weight.abs().max() <= 0.1


@pytest.mark.parametrize("kind", [RnnEncoderConfig, RnnSeq2SeqConfig])
def test_two_directions_share_an_even_width(kind):
    (problem,) = kind(hidden_size=33).problems()
    assert problem.field == "hidden_size"
    assert "33 cannot be shared by two directions" in problem.what
