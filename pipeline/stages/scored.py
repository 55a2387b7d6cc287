"""What an evaluation asks of a model, by its kind: each token, those masked, or a target given its source."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from data.batches import Corruption
from data.denoising import Prompts
from data.heldout import EvalPool, EvalSequences, HeldOut
from data.packed import PackedSequences
from data.pair_rows import PairSequences
from data.shards import TokenShards
from data.tokenizer import Tokenizer
from model.base import LanguageModel
from model.config import classes_of, reads_prompts_whole
from model.decoder import Decoder
from model.encoder import Encoder
from model.objectives import build_objective
from pipeline.errors import ConfigError
from pipeline.evaluation.scoring import held_out_text
from pipeline.training.corruption import masks, spans
from pipeline.training.examples import pool_of_examples
from pipeline.training.objective import ObjectiveSettings, objective_of_classes

if TYPE_CHECKING:
    from pipeline.stages.evaluate import Evaluate

NO_LIKELIHOOD = (
    "eval/loss is the mean loss of masked tokens, each given all the others: a pseudo-likelihood, which cannot be "
    "compared with a decoder's loss, and of which there is no perplexity"
)


@dataclass(frozen=True)
class Scored:
    """An objective around the model, and the sequences that it is asked about."""

    objective: nn.Module
    held_out: HeldOut
    corruption: Corruption | None = None
    note: str = ""
    "What a reader of the numbers must know."


def what_is_scored(
    model: LanguageModel, shards: TokenShards, tokenizer: Tokenizer, settings: "Evaluate", *, seq_len: int
) -> Scored:
    """The objective that fits the model and the tokens.

    Raises:
        ConfigError: the model predicts no tokens, or the tokenizer lacks what stands for those that are hidden.
    """
    rules = ObjectiveSettings(masking=settings.masking, spans=settings.spans)
    if classes_of(model.config):
        asked = objective_of_classes(classes_of(model.config))
        pool = pool_of_examples(asked, model.config, tokenizer, seq_len=seq_len)
        assert pool is not None
        return Scored(build_objective(asked.name, model), EvalPool(pool(shards)))
    if isinstance(model, Decoder):
        held_out_rows = held_out_text(shards, seq_len=seq_len)
        if shards.format.has_loss_mask and reads_prompts_whole(model.config):
            return Scored(build_objective("prefix_lm", model), held_out_rows, Prompts())
        return Scored(build_objective("causal_lm", model), held_out_rows)
    if isinstance(model, Encoder):
        _require_head(model)
        held_out = EvalSequences(shards, seq_len=seq_len)
        corruption = masks(rules, tokenizer, seed=settings.seed)
        return Scored(build_objective("masked_lm", model), held_out, corruption, NO_LIKELIHOOD)
    objective = build_objective("seq2seq_lm", model)
    if shards.format.has_loss_mask:
        return Scored(objective, EvalPool(PairSequences(shards, seq_len=seq_len, start_id=tokenizer.pad_id)))
    whole = EvalPool(PackedSequences(shards, seq_len=seq_len))
    return Scored(objective, whole, spans(rules, tokenizer, seed=settings.seed, seq_len=seq_len))


def _require_head(model: LanguageModel) -> None:
    if not model.config.has_lm_head:
        raise ConfigError(
            f"this {model.config.architecture} model has no head that predicts tokens",
            where="inputs.model",
            allowed="a decoder, an encoder-decoder, or an encoder with masked_lm_head true",
            do="evaluate a model that was trained with a head",
        )
