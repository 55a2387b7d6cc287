"""Recurrent networks: a language model, an encoder, and an encoder-decoder with attention.

With x_t the input and h_{t-1} the last state, s the logistic function, * elementwise:

- vanilla (Elman 1990): h_t = tanh(W x_t + U h_{t-1})
- lstm (Hochreiter and Schmidhuber 1997; the forget gate of Gers et al. 2000): i, f, o = s(W x_t + U h_{t-1}) each with
  its own matrices, g = tanh(...), c_t = f * c_{t-1} + i * g, h_t = o * tanh(c_t)
- gru (Cho et al. 2014, https://arxiv.org/abs/1406.1078): r, z = s(...), n = tanh(W x_t + r * (U h_{t-1})),
  h_t = (1 - z) * n + z * h_{t-1}

The language model stacks layers as Zaremba et al. 2014 do (https://arxiv.org/abs/1409.2329). The encoder reads in both
directions (Schuster and Paliwal 1997). The encoder-decoder has Luong et al.'s global attention with the general score
(2015, https://arxiv.org/abs/1508.04025): a = softmax(h_t W_a H), c_t = a H, and tanh(W_c [c_t; h_t]) goes to the head;
the decoder begins at tanh(W_s h'_1), h'_1 what the encoder read backwards (Bahdanau et al. 2014, appendix A.2.2).

Deviations: no dropout, as in every model here; the attended state is not fed back into the next step, so that the
decoder reads a whole target at once. The steps themselves are PyTorch's kernels, with two biases where one would do.

Letters: B batch, T time, S time of the source, N texts, L length of the longest, C hidden, V vocab.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from model.base import LanguageModel
from model.cache import RecurrentCache, SourceCache
from model.config import Cell, RnnConfig, RnnEncoderConfig, RnnSeq2SeqConfig
from model.decoder import Decoder
from model.encoder import Encoder
from model.encoder_decoder import EncoderDecoder
from model.head import VocabularyHead
from model.layers import Embedding, Linear, full_attention
from model.masks import full_mask
from model.segments import Segments, segments
from model.text_head import text_head


class _Unfilled:
    """Born without values, like `Linear`."""

    def reset_parameters(self) -> None:
        pass


class LSTM(_Unfilled, nn.LSTM):
    """`nn.LSTM`, filled by `init_weights`."""


class GRU(_Unfilled, nn.GRU):
    """`nn.GRU`, filled by `init_weights`."""


class Vanilla(_Unfilled, nn.RNN):
    """`nn.RNN`, filled by `init_weights`."""


CELLS: dict[Cell, Callable[..., nn.RNNBase]] = {Cell.lstm: LSTM, Cell.gru: GRU, Cell.vanilla: Vanilla}


class Layer(nn.Module):
    """One recurrent layer, forwards or in both directions: x [N, L, C] -> [N, L, C]."""

    def __init__(self, config: RnnConfig, *, layer: int, both_ways: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.is_lstm = config.cell is Cell.lstm
        width = config.hidden_size // 2 if both_ways else config.hidden_size
        self.cell = CELLS[config.cell](config.hidden_size, width, batch_first=True, bidirectional=both_ways)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None,
        begin: Tensor | None = None,
        cache: RecurrentCache | None = None,
    ) -> Tensor:
        """`lengths` [N] where they differ; `begin` [N, C]: the state to begin from, zeros without it."""
        state = None if cache is None else cache.states[self.layer]
        if begin is not None:
            state = (begin[None], torch.zeros_like(begin)[None]) if self.is_lstm else begin[None]
        if lengths is None:
            out, state = self.cell(x, state)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            packed, state = self.cell(packed, state)
            out, _ = pad_packed_sequence(packed, batch_first=True)
        if cache is not None:
            cache.states[self.layer] = state
        return torch.as_tensor(out)


@torch.no_grad()
def init_recurrent(model: nn.Module, *, cell: Cell, generator: torch.Generator | None) -> None:
    """Embeddings U(-0.1, 0.1), matrices U(-1 / sqrt(inputs), 1 / sqrt(inputs)), biases 0.

    Save that of an LSTM's forget gate, which begins at 1 and so remembers (Jozefowicz et al. 2015, section 4.3).
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
            if cell is Cell.lstm and "bias_ih" in name:  # rows are i, f, g, o
                nn.init.ones_(parameter[len(parameter) // 4 : len(parameter) // 2])
        else:
            of_vocabulary = name in {"embedding.weight", "lm_head.weight"}
            bound = 0.1 if of_vocabulary else parameter.shape[1] ** -0.5
            nn.init.uniform_(parameter, -bound, bound, generator=generator)


def read(
    model: LanguageModel,
    layers: nn.ModuleList,
    input_ids: Tensor,
    texts: Segments | None,
    cache: RecurrentCache | None = None,
) -> Tensor:
    """What the layers make of the tokens [B, T], each text from a state of zeros or of the cache: [B, T, C]."""
    x = model.embedding(input_ids)  # [B, T, C]
    if texts is not None:
        x = texts.apart(x)  # [N, L, C]
    for layer in layers:
        x = model.through(layer, x, None if texts is None else texts.lengths, None, cache)
    return torch.as_tensor(x if texts is None else texts.together(x))


class Rnn(Decoder):
    """The language model; see `Decoder` for its methods."""

    config: RnnConfig
    sees_prefix = False
    can_be_compiled = False

    def __init__(self, config: RnnConfig) -> None:
        super().__init__(config)
        self.embedding = Embedding(self.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Layer(config, layer=layer) for layer in range(config.num_layers))
        self.lm_head = VocabularyHead(config.hidden_size, self.vocab_size)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.tie_weights()
        init_recurrent(self, cell=self.config.cell, generator=generator)

    def new_cache(self, *, num_padding: Tensor, capacity: int, dtype: torch.dtype) -> RecurrentCache:
        del capacity, dtype  # a state has the size and the dtype of one token
        return RecurrentCache(self.config.num_layers, num_padding=num_padding)

    def hidden(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        prefix_mask: Tensor | None = None,
        cache: RecurrentCache | None = None,
    ) -> Tensor:
        """As in `Decoder`; the order of the tokens is their only position, and documents are contiguous."""
        del position_ids
        assert prefix_mask is None, "a recurrent model sees no prefix"
        texts = segments(None if cache is None else cache.is_real(input_ids.shape[1]), document_ids)
        x = read(self, self.blocks, input_ids, texts, cache)  # [B, T, C]
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return x


class RnnEncoder(Encoder):
    """The encoder; see `Encoder` for its methods."""

    config: RnnEncoderConfig

    def __init__(self, config: RnnEncoderConfig) -> None:
        super().__init__(config)
        self.embedding = Embedding(self.vocab_size, config.hidden_size)
        layers = range(config.num_layers)
        self.blocks = nn.ModuleList(Layer(config, layer=layer, both_ways=True) for layer in layers)
        if config.masked_lm_head:
            self.lm_head = VocabularyHead(config.hidden_size, self.vocab_size)
        if config.classes:
            self.classifier = text_head(config)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.tie_weights()
        init_recurrent(self, cell=self.config.cell, generator=generator)

    def hidden(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """As in `Encoder`, with zeros for padding; there are no token types and no positions but the tokens' order."""
        del token_type_ids, position_ids
        return read(self, self.blocks, input_ids, segments(attention_mask, document_ids))  # [B, T, C]


class RnnSeq2Seq(EncoderDecoder):
    """The encoder-decoder; see `EncoderDecoder` for its methods."""

    config: RnnSeq2SeqConfig

    def __init__(self, config: RnnSeq2SeqConfig) -> None:
        super().__init__(config)
        width, layers = config.hidden_size, range(config.num_layers)
        self.embedding = Embedding(self.vocab_size, width)
        self.encoder_blocks = nn.ModuleList(Layer(config, layer=layer, both_ways=True) for layer in layers)
        self.begin = Linear(width // 2, config.num_layers * width)  # W_s of every layer
        self.blocks = nn.ModuleList(Layer(config, layer=layer) for layer in layers)
        self.score = Linear(width, width, bias=False)  # W_a
        self.attended = Linear(2 * width, width, bias=False)  # W_c
        self.lm_head = VocabularyHead(width, self.vocab_size)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        self.tie_weights()
        init_recurrent(self, cell=self.config.cell, generator=generator)

    def encode(
        self, input_ids: Tensor, *, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        return read(self, self.encoder_blocks, input_ids, segments(attention_mask, document_ids))  # [B, S, C]

    def new_cache(self, memory: Tensor, *, attention_mask: Tensor | None, capacity: int) -> SourceCache:
        del capacity
        none = torch.zeros(len(memory), dtype=torch.long, device=memory.device)
        target = RecurrentCache(self.config.num_layers, num_padding=none)
        return SourceCache(memory, attention_mask=attention_mask, target=target)

    def decode(
        self,
        decoder_input_ids: Tensor,
        memory: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
        cache: SourceCache | None = None,
    ) -> Tensor:
        x = self.embedding(decoder_input_ids)  # [B, T, C]
        texts = segments(None, decoder_document_ids)
        mask = full_mask(attention_mask, decoder_document_ids, document_ids)  # [B, 1, T or 1, S]
        begins: Sequence[Tensor | None] = [None] * self.config.num_layers
        if cache is None or cache.length == 0:
            begins = self.beginnings(memory, mask, texts, decoder_input_ids)
        if texts is not None:
            x = texts.apart(x)  # [N, L, C]
        target = None if cache is None else cache.target
        for block, begin in zip(self.blocks, begins, strict=True):
            x = self.through(block, x, None if texts is None else texts.lengths, begin, target)
        if texts is not None:
            x = texts.together(x)  # [B, T, C]
        if cache is not None:
            cache.advance(x.shape[1])
        heads = memory[:, :, None]  # [B, S, 1, C]: one head
        seen = full_attention(self.score(x)[:, :, None], key=heads, value=heads, mask=mask, scale=1.0)
        return torch.tanh(self.attended(torch.cat((seen, x), dim=-1)))  # [B, T, C]

    def beginnings(
        self, memory: Tensor, mask: Tensor | None, texts: Segments | None, decoder_input_ids: Tensor
    ) -> tuple[Tensor, ...]:
        """The state [N, C] from which each layer begins each target, out of what was read backwards of its source."""
        first = torch.zeros_like(decoder_input_ids[:, 0]) if mask is None else mask[:, 0].int().argmax(-1)
        rows = torch.arange(len(memory), device=memory.device)
        if texts is None:
            first = first.view(-1)  # [N]: column of each source's first token; every row is one text
        else:
            first = texts.first(first.expand_as(decoder_input_ids))
            rows = texts.first(rows[:, None].expand_as(decoder_input_ids))
        backwards = memory[
            rows, first, self.config.hidden_size // 2 :
        ]  # [N, C/2], having read the whole source
        return torch.tanh(self.begin(backwards)).chunk(self.config.num_layers, dim=-1)
