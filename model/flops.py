"""Parameters and floating-point operations from a config alone: nothing is built, no torch is imported.

Letters: L layers, H query heads, K key-value heads, D head dim, S source length, T (target) sequence length.
"""

from model.config import ModelConfig


def num_parameters(config: ModelConfig) -> int:
    """Parameters of the model that `config` describes; tied embeddings count once. Needs `vocab_size`."""
    return config.size().parameters


def num_block_parameters(config: ModelConfig) -> int:
    """Parameters between the embedding and the last norm."""
    size = config.size()
    return size.source + size.blocks


def flops_per_token(config: ModelConfig, seq_len: int) -> int:
    """Operations of forward and backward for one token of a sequence of `seq_len`: 6 N + 12 L H D T.

    The convention of PaLM, appendix B (Chowdhery et al. 2022), which is that of model FLOPs utilisation: a multiply
    and an add are two operations, the backward pass costs twice the forward, attention counts all T x T pairs although
    causal kernels skip half, and recomputation is not counted. N is the parameters that multiply each token: all but
    the tables that are only looked up. So tied embeddings count once, as the vocabulary head.

    In an encoder-decoder, the mean over the tokens of a source and a target of `seq_len` each, rounded down.
    """
    if config.size().source:
        return flops_per_pair(config, seq_len, seq_len) // (2 * seq_len)
    size = config.size()
    return 6 * (size.blocks + size.rest) + 12 * size.attention * seq_len


def flops_per_pair(config: ModelConfig, source_len: int, target_len: int) -> int:
    """Operations of forward and backward of an encoder-decoder: 6 (N_S S + N_T T), and of attention over all pairs."""
    size = config.size()
    matrices = size.source * source_len + (size.blocks + size.rest) * target_len
    attention = (
        size.source_attention * source_len**2
        + size.attention * target_len**2
        + size.cross_attention * source_len * target_len
    )
    return 6 * matrices + 12 * attention


def kv_cache_bytes_per_token(config: ModelConfig, *, bytes_per_value: int) -> int:
    """What generation keeps for each token: a key and a value in every layer: 2 L K D values."""
    return 2 * config.num_layers * config.attention_kv_heads * config.attention_head_dim * bytes_per_value
