"""What is trained: the objective of a model, what it reads, and what that costs. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from data.corruption import SpanCorruption, TokenMasking
from model.config import ADDED_LATER, DecoderConfig, ModelConfig, classes_of, is_number, reads_prompts_whole
from model.flops import flops_per_pair, flops_per_token
from pipeline.dag.stage import Problem, below


class Objective(Enum):
    """What a model learns to predict."""

    causal_lm = "causal_lm"
    "Each next token."
    prefix_lm = "prefix_lm"
    "Each next token behind a prefix that sees all of itself: an example's prompt; of text, as much as is drawn."
    masked_lm = "masked_lm"
    "Tokens masked at random, anew each time, from both sides (Devlin et al. 2018, 3.1)."
    span_corruption = "span_corruption"
    "Spans left out of a text (Raffel et al. 2019, 3.1.4)."
    seq2seq_lm = "seq2seq_lm"
    "The response of an example, given its prompt."
    classification = "classification"
    "Which class the response of an example names, given its prompt."
    regression = "regression"
    "Which number the response of an example is, given its prompt."


ARCHITECTURES = {
    Objective.causal_lm: ("gpt2", "llama", "rnn"),
    Objective.prefix_lm: ("gpt2", "llama"),
    Objective.masked_lm: ("bert", "rnn_encoder"),
    Objective.span_corruption: ("t5", "transformer", "rnn_seq2seq"),
    Objective.seq2seq_lm: ("transformer", "rnn_seq2seq", "t5"),
    Objective.classification: ("bert", "rnn_encoder", "gpt2", "llama"),
    Objective.regression: ("bert", "rnn_encoder", "gpt2", "llama"),
}
"The models that each objective can train."
DEFAULTS = {
    "bert": Objective.masked_lm,
    "rnn_encoder": Objective.masked_lm,
    "t5": Objective.span_corruption,
    "transformer": Objective.seq2seq_lm,
    "rnn_seq2seq": Objective.seq2seq_lm,
}
"The objective of an architecture where none is asked for; of all others it is causal_lm."
OF_TEXTS = frozenset({Objective.classification, Objective.regression})
"Those that say one thing of a whole text, with a head for it."
OF_EXAMPLES = OF_TEXTS | {Objective.seq2seq_lm}
"Those that read pairs of a prompt and a response, and nothing else."


@dataclass
class Distillation:
    """How much a teacher's word counts: the loss of a target is (1 - soft_weight) times that of its label, soft_weight
    times that of the teacher's probabilities, and hidden_weight times how far apart the two hidden states point.
    """

    temperature: float = 1.0
    "At which both probabilities are compared (Hinton et al. 2015, section 2); > 0: the higher, the more even they are."
    soft_weight: float = 0.9
    "Of the teacher's probabilities; the labels have the rest; in [0, 1]."
    hidden_weight: float = 0.0
    "Of 1 - cos(hidden state, the teacher's), which must be as wide (Sanh et al. 2019, section 3); >= 0."

    def problems(self) -> list[Problem]:
        ranges = [
            ("temperature", self.temperature > 0, "> 0"),
            ("soft_weight", 0 <= self.soft_weight <= 1, "in [0, 1]"),
            ("hidden_weight", self.hidden_weight >= 0, ">= 0; 0 means that hidden states are free"),
        ]
        return [
            Problem(name, f"{name} is {getattr(self, name)}", allowed, f"set {name} {allowed}")
            for name, holds, allowed in ranges
            if not holds
        ]


@dataclass
class ObjectiveSettings:
    """What is to be predicted: identity, as all of training."""

    objective: Objective | None = field(default=None, metadata=ADDED_LATER)
    """causal_lm, prefix_lm, masked_lm, span_corruption, seq2seq_lm, classification or regression. None: what the
    architecture is made for: masked_lm for bert, span_corruption for t5, seq2seq_lm for transformer, causal_lm for a
    decoder; of a model with classes classification, or regression where it names but one."""
    masking: TokenMasking = field(default_factory=TokenMasking, metadata=ADDED_LATER)
    "Of masked_lm: how many tokens are masked, and with what."
    spans: SpanCorruption = field(default_factory=SpanCorruption, metadata=ADDED_LATER)
    "Of span_corruption: how much is left out, in spans of which length."
    label_smoothing: float = field(default=0.0, metadata=ADDED_LATER)
    "Of seq2seq_lm and span_corruption: probability that targets spread over the vocabulary, in [0, 1)."
    distillation: Distillation = field(default_factory=Distillation, metadata=ADDED_LATER)
    "What is learnt from `inputs.teacher`, where there is one."

    def objective_of(self, model: ModelConfig) -> Objective:
        """What was asked for, or what the architecture is made for."""
        if self.objective is None and classes_of(model):
            return objective_of_classes(classes_of(model))
        if self.objective is None and reads_prompts_whole(model):
            return Objective.prefix_lm
        return self.objective or DEFAULTS.get(model.architecture, Objective.causal_lm)

    def trained(self, model: ModelConfig) -> ModelConfig:
        """The model as it is once it has learnt this: how a prompt is to be read goes along with the weights."""
        if not isinstance(model, DecoderConfig):
            return model
        return replace(model, prefix_lm=self.objective_of(model) is Objective.prefix_lm)

    def _objective_problems(self) -> list[Problem]:
        found = below("masking", self.masking.problems()) + below("spans", self.spans.problems())
        found += below("distillation", self.distillation.problems())
        if not 0 <= self.label_smoothing < 1:
            what = f"label_smoothing is {self.label_smoothing}"
            found.append(Problem("label_smoothing", what, "in [0, 1)", "set label_smoothing in [0, 1)"))
        return found

    def model_problems(self, model: ModelConfig, *, seq_len: int) -> list[Problem]:
        """What is wrong between the objective and a model."""
        objective = self.objective_of(model)
        if model.architecture not in ARCHITECTURES[objective]:
            return [_wrong_architecture(objective, model)]
        if objective in OF_TEXTS:
            classes = classes_of(model)
            return (
                [] if classes and objective is objective_of_classes(classes) else [_wrong_classes(objective)]
            )
        if not model.has_lm_head:
            what = f"this {model.architecture} model has no head that predicts tokens, and {objective.name} needs one"
            if model.is_causal:
                return [Problem("model.classes", what, "none", "leave model.classes empty")]
            do = "set model.masked_lm_head=true"
            return [Problem("model.masked_lm_head", what, "true", do)]
        if objective is Objective.span_corruption and seq_len < 2:  # noqa: PLR2004
            what = "a sequence of one token has no span to leave out"
            return [Problem("seq_len", what, "at least 2", "set a longer seq_len")]
        return []

    def reads(self, model: ModelConfig, seq_len: int) -> tuple[int, int]:
        """Tokens of source and target that an encoder-decoder reads of a sequence of `seq_len`, at most."""
        if self.objective_of(model) is Objective.span_corruption:
            return self.spans.lengths(seq_len)
        return seq_len, seq_len

    def flops_per_token(self, model: ModelConfig, seq_len: int) -> int:
        """Operations of training for each token of a sequence of `seq_len`, rounded down; see `model.flops`.

        Of a masked model, the vocabulary head for every token too, as that convention has it.
        """
        if self.objective_of(model) is Objective.span_corruption:
            return flops_per_pair(model, *self.spans.lengths(seq_len)) // seq_len
        return flops_per_token(model, seq_len)


def _wrong_architecture(objective: Objective, model: ModelConfig) -> Problem:
    fitting = ARCHITECTURES[objective]
    own = [each.name for each, architectures in ARCHITECTURES.items() if model.architecture in architectures]
    what = f"a {model.architecture} model cannot be trained with {objective.name}"
    allowed = f"for {model.architecture}: {', '.join(own)}; for {objective.name}: {', '.join(fitting)}"
    default = DEFAULTS.get(model.architecture, Objective.causal_lm).name
    return Problem("objective", what, allowed, f"set objective={default}, or choose another model")


def objective_of_classes(classes: Sequence[str]) -> Objective:
    """What a head with these names is trained with."""
    return Objective.regression if is_number(classes) else Objective.classification


def _wrong_classes(objective: Objective) -> Problem:
    if objective is Objective.regression:
        what, allowed = "a number that texts have is not named", "one name, such as similarity"
        return Problem("classes", what, allowed, "set classes=[NAME]")
    allowed = "the names of at least two classes, as the responses of examples have them"
    return Problem(
        "classes", "no classes are named that texts could be of", allowed, "set classes=[NAME,NAME]"
    )


def reported_of(objective: Objective) -> tuple[str, ...]:
    """The metrics of an evaluation on held-out text."""
    if objective in (Objective.masked_lm, Objective.classification):
        return ("eval/loss", "eval/accuracy")
    if objective is Objective.regression:
        return ("eval/loss",)
    if objective is Objective.causal_lm:
        return ("eval/loss", "eval/perplexity", "eval/bits_per_byte")
    return ("eval/loss", "eval/perplexity")
