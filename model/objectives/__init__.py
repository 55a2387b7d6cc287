"""What a model is trained to do: each objective turns a batch into a sum of losses and a count of targets.

A sum and a count, not a mean: micro batches and ranks hold different numbers of targets, and only the sum over all of
them divided by the count over all of them is the global batch's mean.
"""

from torch import nn

from model.base import LanguageModel
from model.objectives.loss import LossSum
from model.objectives.texts import Classification, OwnClassification, OwnRegression, Regression
from model.objectives.tokens import CausalLM, MaskedLM, PrefixLM, Seq2SeqLM
from model.text_head import Pooling

__all__ = [
    "OBJECTIVES",
    "CausalLM",
    "Classification",
    "LossSum",
    "MaskedLM",
    "OwnClassification",
    "OwnRegression",
    "Pooling",
    "PrefixLM",
    "Regression",
    "Seq2SeqLM",
    "build_objective",
]


def build_objective(name: str, model: LanguageModel, *, label_smoothing: float = 0.0) -> nn.Module:
    """The objective of that name around a model, which has all its parameters.

    `label_smoothing` is for those of encoder-decoders.

    Raises ValueError where the model is none that it can train.
    """
    kind = OF_OWN_HEAD.get(name) or OBJECTIVES[name]
    if kind is Seq2SeqLM:
        return Seq2SeqLM(model, label_smoothing=label_smoothing)  # type: ignore[arg-type]
    return kind(model)


OBJECTIVES: dict[str, type[nn.Module]] = {
    "causal_lm": CausalLM,
    "prefix_lm": PrefixLM,
    "masked_lm": MaskedLM,
    "seq2seq_lm": Seq2SeqLM,
    "span_corruption": Seq2SeqLM,  # what differs is the data: `data.corruption`
    "classification": Classification,
    "regression": Regression,
}
"""Every objective by its name."""
OF_OWN_HEAD: dict[str, type[nn.Module]] = {"classification": OwnClassification, "regression": OwnRegression}
"""Those that a model has the head for."""
