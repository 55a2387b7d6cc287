"""What tokens see: the rule word for word, and the same in blocks, which on CPUs have a forward pass alone."""

from dataclasses import replace

import pytest
import torch

from model import layers, masks
from model.config import GPT2Config, LlamaConfig
from model.masks import causal_mask
from model.objectives import CausalLM
from model.recompute import Recompute
from model.registry import build_model

CPU = torch.device("cpu")
NUM_TOKENS = 300
DOCUMENTS = torch.tensor([[0] * 130 + [1] * 50 + [2] * 120, [0] * 7 + [1] * 293])
PREFIX = torch.zeros(2, NUM_TOKENS, dtype=torch.long)
PREFIX[0, 100:140] = PREFIX[1, :20] = 1
SIZE = {"vocab_size": 50, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_seq_len": NUM_TOKENS}
GPT2 = GPT2Config(**SIZE, intermediate_size=48)
LLAMA = LlamaConfig(**SIZE, intermediate_size=48, num_kv_heads=1)


def in_words(documents, prefix, window):
    """As the docstring says it, one pair after the other."""
    found = torch.zeros(2, 1, NUM_TOKENS, NUM_TOKENS, dtype=torch.bool)
    for row in range(2):
        for query in range(NUM_TOKENS):
            for key in range(NUM_TOKENS):
                is_seen = key <= query or (prefix is not None and bool(prefix[row, key]))
                if documents is not None:
                    is_seen = is_seen and documents[row, key] == documents[row, query]
                if window is not None:
                    is_seen = is_seen and key > query - window
                found[row, 0, query, key] = is_seen
    return found


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("prefix", [None, PREFIX[:, :30]], ids=["no prefix", "prefix"])
@pytest.mark.parametrize(
    "documents", [None, DOCUMENTS[:, :30] + torch.arange(30) // 11], ids=["one", "documents"]
)
def test_the_mask_is_what_its_words_say(documents, prefix, window, monkeypatch):
    monkeypatch.setitem(globals(), "NUM_TOKENS", 30)
    window = window and 12
    found = causal_mask(30, device=CPU, document_ids=documents, prefix_mask=prefix, window=window)
    if documents is None and prefix is None and window is None:
        assert found is None
    else:
        assert torch.equal(found.expand(2, 1, 30, 30), in_words(documents, prefix, window))


def test_a_window_that_holds_all_tokens_is_none():
    assert causal_mask(30, device=CPU, window=30) is None
    assert causal_mask(31, device=CPU, window=30) is not None


@pytest.fixture
def blocks_on_cpu(monkeypatch):
    """Attention in blocks, computed by torch's reference instead of a compiled kernel."""
    monkeypatch.setattr(masks, "BLOCK_DEVICES", {"cpu"})
    monkeypatch.setattr(layers, "_compiled", lambda function: function)


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("prefix", [None, PREFIX], ids=["no prefix", "prefix"])
def test_blocks_hold_the_same_mask(prefix, window, blocks_on_cpu):
    from torch.nn.attention.flex_attention import BlockMask, create_mask

    given = {"device": CPU, "document_ids": DOCUMENTS, "prefix_mask": prefix, "window": window}
    found = causal_mask(NUM_TOKENS, **given)
    dense = causal_mask(NUM_TOKENS, **given, in_blocks=False)
    assert isinstance(found, BlockMask)
    assert torch.equal(create_mask(found.mask_mod, 2, 1, NUM_TOKENS, NUM_TOKENS, "cpu"), dense)
    blocks = torch.nn.functional.pad(dense, (0, 84, 0, 84)).unflatten(-1, (3, 128)).unflatten(-3, (3, 128))
    assert torch.equal(found.to_dense().bool(), blocks.any(-1).any(-2))


@pytest.mark.parametrize(
    "config", [GPT2, LLAMA, replace(LLAMA, sliding_window=40)], ids=["gpt2", "llama", "window"]
)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.no_grad()
def test_a_model_in_blocks_gives_the_same_hidden_states(config, blocks_on_cpu, monkeypatch):
    torch.manual_seed(0)
    model = build_model(config)
    tokens = torch.randint(50, (2, NUM_TOKENS))
    found = model.hidden(tokens, document_ids=DOCUMENTS, prefix_mask=PREFIX)
    monkeypatch.setattr(masks, "BLOCK_DEVICES", set())
    torch.testing.assert_close(found, model.hidden(tokens, document_ids=DOCUMENTS, prefix_mask=PREFIX))


def test_selective_recomputation_and_few_tokens_have_a_mask_that_is_a_tensor(blocks_on_cpu):
    model = build_model(GPT2)
    tokens = torch.zeros(2, NUM_TOKENS, dtype=torch.long)
    assert not isinstance(model.mask(tokens, DOCUMENTS, None), torch.Tensor)
    assert isinstance(model.mask(tokens[:, :99], DOCUMENTS[:, :99], None), torch.Tensor)
    model.activation_checkpointing = Recompute.selective
    assert isinstance(model.mask(tokens, DOCUMENTS, None), torch.Tensor)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("config", [GPT2, LLAMA, replace(LLAMA, sliding_window=40)])
def test_gradients_in_blocks_are_those_of_a_mask_that_is_a_tensor(config, compiled, monkeypatch):
    torch.manual_seed(0)
    objective = CausalLM(build_model(replace(config, hidden_size=128))).cuda()
    tokens, documents = torch.randint(50, (2, NUM_TOKENS)).cuda(), DOCUMENTS.cuda()
    found = []
    for devices in ({"cuda"}, set()):
        monkeypatch.setattr(masks, "BLOCK_DEVICES", devices)
        if compiled:
            for block in objective.model.blocks:
                block.compile(dynamic=False)
        objective.zero_grad()
        loss = objective(tokens, tokens.roll(-1, 1), document_ids=documents).loss_sum
        loss.backward()
        found.append([loss.detach(), *(each.grad.clone() for each in objective.parameters())])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)
