"""From a config to a model: the one list of architectures that can be built."""

from importlib import import_module

from model.base import LanguageModel
from model.config import ModelConfig, suggestion

ARCHITECTURES: dict[str, str] = {
    "gpt2": "model.gpt2:GPT2",
    "llama": "model.llama:Llama",
    "bert": "model.bert:Bert",
    "transformer": "model.transformer:Transformer",
    "t5": "model.t5:T5",
    "rnn": "model.rnn:Rnn",
    "rnn_encoder": "model.rnn:RnnEncoder",
    "rnn_seq2seq": "model.rnn:RnnSeq2Seq",
}
"""Module and class of each architecture; imported when first built."""


def build_model(config: ModelConfig) -> LanguageModel:
    """A model with initialised weights, on torch's default device, from torch's default generator.

    Under `torch.device("meta")` it costs no memory; then `to_empty(device=...)` and `init_weights()` make it real.

    Raises:
        ValueError: The architecture is unknown or the sizes do not fit, in words.
    """
    if config.architecture not in ARCHITECTURES:
        known = suggestion(config.architecture, ARCHITECTURES)
        raise ValueError(f'unknown architecture "{config.architecture}"; {known}')
    if problems := config.problems():
        raise ValueError("; ".join(f"{p.what} (allowed: {p.allowed})" for p in problems))
    module, _, name = ARCHITECTURES[config.architecture].partition(":")
    model: LanguageModel = getattr(import_module(module), name)(config)
    if model.embedding.weight.is_meta:  # to fill nothing, torch would load its compiler, for seconds
        model.tie_weights()
    else:
        model.init_weights()
    return model
