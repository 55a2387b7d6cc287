"""What autograd keeps from the forward to the backward pass, counted from the configs alone. Torch-free.

Of our own blocks, as torch's kernels keep it: measured on CPUs for every architecture, with and without recomputation.
On GPUs it is what their kernels are written to keep.

Letters: w bytes of a number, C hidden, A all query heads, K all heads of keys, F intermediate, S tokens looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from model.config import (
    BertConfig,
    Cell,
    DecoderConfig,
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
from pipeline.training.config import TrainingConfig
from pipeline.training.objective import Objective

FP32, INDEX = 4, 8


@dataclass(frozen=True)
class Stack:
    """Blocks that a sequence passes, and the bytes that are kept of each of its tokens."""

    num_layers: int
    length: int
    "Tokens of a sequence."
    block: int
    products: int
    "Of a block, what matrices and attention give: what selective recomputation keeps beside the block's input."
    ends: int
    "Outside of the blocks: of embeddings, the last norm and the head."
    tables: int = 0
    "Not of each token: kept once for all sequences."

    def bytes_of(self, num_sequences: int, *, each_input: int, recomputation: Recomputation) -> int:
        """Of all blocks; with recomputation what stays of each block, and one block while it is computed again."""
        if recomputation is Recomputation.none:
            kept = self.num_layers * self.block
        else:
            stays = self.products if recomputation is Recomputation.selective else 0
            kept = self.num_layers * (each_input + stays) + self.block
        return num_sequences * self.length * (kept + self.ends) + self.tables


def activation_bytes(
    model: ModelConfig,
    config: TrainingConfig,
    micro_batch_size: int,
    wide: int,
    recomputation: Recomputation,
    *,
    on_gpu: bool,
) -> int:
    """Of one micro batch; `wide`: bytes of a number in the precision of the training."""
    source, target = config.reads(model, config.seq_len)
    stacks = _STACKS[type(model)](_Sizes(model, wide, on_gpu), source, target)
    each_input = wide * model.hidden_size
    found = sum(
        each.bytes_of(micro_batch_size, each_input=each_input, recomputation=recomputation) for each in stacks
    )
    has_mask = config.mask_documents or config.objective_of(model) is Objective.prefix_lm
    in_blocks = on_gpu and model.is_causal and recomputation is not Recomputation.selective  # and small
    if isinstance(model, DecoderConfig | BertConfig) and has_mask and not in_blocks:
        found += micro_batch_size * config.seq_len**2 * wide
    return found


class _Sizes:
    """Widths in bytes of the training's precision: what a token keeps of a tensor that wide."""

    def __init__(self, model: ModelConfig, wide: int, on_gpu: bool) -> None:  # noqa: FBT001
        self.model, self.wide, self.on_gpu = model, wide, on_gpu
        self.hidden, self.inner = wide * model.hidden_size, wide * model.intermediate_size
        self.heads = wide * model.num_heads * model.attention_head_dim
        self.kv_heads = wide * model.attention_kv_heads * model.attention_head_dim

    def fp32(self, size: int) -> int:
        """The same width in fp32."""
        return size * FP32 // self.wide

    @property
    def norm(self) -> int:
        """LayerNorm: its input and its result."""
        return 2 * self.hidden

    @property
    def rms_norm(self) -> int:
        """One kernel on GPUs alone; on CPUs the input in fp32, before and after it is divided, and the result."""
        return self.norm if self.on_gpu else self.hidden + 2 * self.fp32(self.hidden)

    @property
    def attention(self) -> int:
        """Queries, keys, values and the mix of values."""
        return 2 * self.heads + 2 * self.kv_heads

    def cross_attention(self, source: int, target: int) -> int:
        """Queries and the mix of values, and the keys and values of the source, shared out over the target's tokens."""
        return 2 * self.heads + 2 * self.heads * source // target

    @property
    def products(self) -> int:
        """What matrices and attention give in a block whose MLP has one inner matrix."""
        return self.attention + 2 * self.hidden + self.inner + FP32 * self.model.num_heads


def _gpt2(of: _Sizes, length: int, _target: int) -> list[Stack]:
    block = 2 * of.norm + of.attention + 2 * of.inner  # before and after GELU
    return [Stack(of.model.num_layers, length, block, of.products, ends=2 * of.hidden)]


def _bert(of: _Sizes, length: int, target: int) -> list[Stack]:
    """The head that predicts masked tokens is a layer by itself."""
    (stack,) = _gpt2(of, length, target)
    return [replace(stack, ends=5 * of.hidden)]


def _llama(of: _Sizes, length: int, _target: int) -> list[Stack]:
    model = of.model
    assert isinstance(model, LlamaConfig)
    turned = of.heads + of.kv_heads  # rotation keeps queries and keys again
    normed = 0
    if model.qk_norm:
        normed = turned if of.on_gpu else of.fp32(turned) * (1 if of.wide == FP32 else 2)
    # gate, up, silu(gate) and the product
    block = 2 * of.rms_norm + of.attention + turned + normed + 4 * of.inner
    return [Stack(model.num_layers, length, block, of.products + of.inner, ends=of.rms_norm)]


def _transformer(of: _Sizes, source: int, target: int) -> list[Stack]:
    """ReLU keeps its result alone, which the next matrix keeps too."""
    layers = of.model.num_layers
    encoder = 2 * of.norm + of.attention + of.inner
    cross = of.cross_attention(source, target)
    products = of.products + of.hidden + cross
    return [
        Stack(layers, source, encoder, of.products, ends=of.hidden),
        Stack(layers, target, encoder + of.norm + cross, products, ends=of.hidden),
    ]


def _t5(of: _Sizes, source: int, target: int) -> list[Stack]:
    """Positions are added to the scores and learnt: torch's CPU kernel for that keeps all probabilities, in fp32."""
    model = of.model
    assert isinstance(model, T5Config)
    inner = of.inner * (4 if model.gated_mlp else 1)

    def stack(num_layers: int, length: int, *, cross: int = 0) -> Stack:
        probabilities = 0 if of.on_gpu else FP32 * model.num_heads * length
        attention = 4 * of.heads if of.on_gpu else 3 * of.fp32(of.heads) + of.heads
        block = 2 * of.rms_norm + attention + probabilities + inner + (of.rms_norm + cross if cross else 0)
        products = of.products + probabilities + (of.inner if model.gated_mlp else 0)
        products += of.fp32(of.heads) - of.heads if not of.on_gpu else 0
        products += of.hidden + cross if cross else 0
        return Stack(num_layers, length, block, products, of.rms_norm, tables=INDEX * length * length)

    cross = of.cross_attention(source, target)
    return [stack(model.num_layers, source), stack(model.decoder_layers, target, cross=cross)]


def _rnn(of: _Sizes, length: int, _target: int) -> list[Stack]:
    ends = of.hidden * (2 if _is_lstm(of.model) else 1)
    return [Stack(of.model.num_layers, length, _recurrent(of), 0, ends)]


def _rnn_encoder(of: _Sizes, length: int, _target: int) -> list[Stack]:
    ends = of.hidden * (1 if _is_lstm(of.model) else 2)
    return [Stack(of.model.num_layers, length, _recurrent(of, both_ways=True), 0, ends)]


def _rnn_seq2seq(of: _Sizes, source: int, target: int) -> list[Stack]:
    """The attention of the decoder, and what it makes of the mix, are at the ends."""
    layers = of.model.num_layers
    return [
        Stack(layers, source, _recurrent(of, both_ways=True), 0, ends=2 * of.hidden),
        Stack(layers, target, _recurrent(of), 0, ends=7 * of.hidden),
    ]


def _recurrent(of: _Sizes, *, both_ways: bool = False) -> int:
    """A layer of torch's own cells: gates and states, as their kernels keep them; of an LSTM some in fp32."""
    if _is_lstm(of.model):
        hidden, in_fp32 = of.hidden, of.fp32(of.hidden)
        return 13 * hidden + 11 * in_fp32 if both_ways else 10 * hidden + 13 * in_fp32 // 2
    return of.hidden * (8 if _cell(of.model) is Cell.gru else 2)


def _cell(model: ModelConfig) -> Cell:
    assert isinstance(model, RnnConfig)
    return model.cell


def _is_lstm(model: ModelConfig) -> bool:
    return _cell(model) is Cell.lstm


_STACKS: dict[type[ModelConfig], Callable[[_Sizes, int, int], list[Stack]]] = {
    GPT2Config: _gpt2,
    LlamaConfig: _llama,
    BertConfig: _bert,
    TransformerConfig: _transformer,
    T5Config: _t5,
    RnnConfig: _rnn,
    RnnEncoderConfig: _rnn_encoder,
    RnnSeq2SeqConfig: _rnn_seq2seq,
}
