"""Parameters and floating-point operations from a config alone: nothing is built, no torch is imported.

Letters: L layers, C hidden, H query heads, K key-value heads, D head dim, F intermediate, V vocab, T sequence length.
"""

from model.config import LlamaConfig, ModelConfig


def num_parameters(config: ModelConfig) -> int:
    """Parameters of the model that `config` describes; tied embeddings count once. Needs `vocab_size`."""
    head = 0 if config.tie_embeddings else _embedding(config)
    return _embedding(config) + _positions(config) + _blocks(config) + _norm(config) + head


def num_block_parameters(config: ModelConfig) -> int:
    """Parameters between the embedding and the last norm."""
    return _blocks(config)


def flops_per_token(config: ModelConfig, seq_len: int) -> int:
    """Operations of forward and backward for one token of a sequence of `seq_len`: 6 N + 12 L H D T.

    The convention of PaLM, appendix B (Chowdhery et al. 2022), which is that of model FLOPs utilisation: a multiply
    and an add are two operations, the backward pass costs twice the forward, attention counts all T x T pairs although
    causal kernels skip half, and recomputation is not counted. N is the parameters that multiply each token: all but
    the tables that are only looked up. So tied embeddings count once, as the vocabulary head.
    """
    lookups = _positions(config) + (0 if config.tie_embeddings else _embedding(config))
    attention = 12 * config.num_layers * config.num_heads * config.attention_head_dim * seq_len
    return 6 * (num_parameters(config) - lookups) + attention


def kv_cache_bytes_per_token(config: ModelConfig, *, bytes_per_value: int) -> int:
    """What generation keeps for each token: a key and a value in every layer: 2 L K D values."""
    return 2 * config.num_layers * config.attention_kv_heads * config.attention_head_dim * bytes_per_value


def _embedding(config: ModelConfig) -> int:
    assert config.vocab_size is not None, "parameters can be counted once vocab_size is known"
    return config.vocab_size * config.hidden_size


def _positions(config: ModelConfig) -> int:
    return 0 if isinstance(config, LlamaConfig) else config.max_seq_len * config.hidden_size


def _norm(config: ModelConfig) -> int:
    return (
        config.hidden_size if isinstance(config, LlamaConfig) else 2 * config.hidden_size
    )  # LayerNorm has a bias


def _blocks(config: ModelConfig) -> int:
    width, inner = config.hidden_size, config.intermediate_size
    heads = config.num_heads * config.attention_head_dim  # H*D
    kv_heads = config.attention_kv_heads * config.attention_head_dim  # K*D
    matrices = 2 * width * heads + 2 * width * kv_heads  # query and output; key and value
    if isinstance(config, LlamaConfig):
        matrices += 3 * width * inner  # gate, up, down
        biases = 0
    else:
        matrices += 2 * width * inner  # up, down
        biases = heads + 2 * kv_heads + width + inner + width
    return config.num_layers * (matrices + biases + 2 * _norm(config))
