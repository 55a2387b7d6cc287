"""What a training makes of its sequences, with the ids of its tokenizer. No torch, so that a look costs nothing."""

from dataclasses import replace

import numpy as np

from data.batches import Corruption
from data.denoising import Masks, Prefixes, Prompts, Spans
from data.tokenizer import Tokenizer
from model.config import ModelConfig
from pipeline.errors import ConfigError
from pipeline.training.config import Packing, TrainingConfig
from pipeline.training.objective import Objective, ObjectiveSettings


def corruption_of(
    training: TrainingConfig,
    model: ModelConfig,
    tokenizer: Tokenizer,
    *,
    packing: Packing | None,
) -> Corruption | None:
    """None where the objective reads sequences as they are; without a packing each is an example.

    Raises:
        ConfigError: the tokenizer has no token for a mask, or too few for spans.
    """
    match training.objective_of(model):
        case Objective.masked_lm:
            return masks(training, tokenizer, seed=training.seed)
        case Objective.span_corruption:
            return spans(training, tokenizer, seed=training.seed, seq_len=training.seq_len)
        case Objective.prefix_lm:
            return Prefixes(training.seed) if packing else Prompts()
    return None


def stand_in_corruption(training: TrainingConfig, model: ModelConfig) -> Corruption | None:
    """One of the same shapes and the same work, for random tokens, where there is no tokenizer yet."""
    assert model.vocab_size is not None, "the vocabulary's size decides what is drawn"
    match training.objective_of(model):
        case Objective.masked_lm:
            is_control = np.zeros(model.vocab_size, dtype=bool)
            rules = replace(training.masking, whole_words=False)
            return Masks(rules, training.seed, 0, model.vocab_size, is_control)
        case Objective.span_corruption:
            _, wanted = training.spans.counts(training.seq_len)
            sentinels = np.arange(wanted, dtype=np.int64) % model.vocab_size
            return Spans(training.spans, training.seed, sentinels, eos_id=0, start_id=0)
        case Objective.prefix_lm:
            return Prefixes(training.seed)
    return None


def masks(settings: ObjectiveSettings, tokenizer: Tokenizer, *, seed: int) -> Masks:
    """Raises ConfigError where the tokenizer has no mask token."""
    if tokenizer.mask_id is None:
        raise ConfigError(
            "this tokenizer has no token that stands for a masked one, which masked_lm needs",
            where="inputs.tokenizer",
            allowed="a tokenizer with a mask_token, or with the control token [MASK] or <mask>",
            do='set rules.special_tokens=["[MASK]"] on the tokenizer node, or import a tokenizer that has one',
        )
    is_control = np.zeros(tokenizer.vocab_size, dtype=bool)
    is_control[list(tokenizer.special_ids.values())] = True
    edges = tokenizer.word_edges() if settings.masking.whole_words else None
    return Masks(settings.masking, seed, tokenizer.mask_id, tokenizer.vocab_size, is_control, edges)


def spans(settings: ObjectiveSettings, tokenizer: Tokenizer, *, seed: int, seq_len: int) -> Spans:
    """Raises ConfigError where the tokenizer has fewer sentinels than a sequence of `seq_len` has spans."""
    _, wanted = settings.spans.counts(seq_len)
    if len(tokenizer.sentinel_ids) < wanted:
        raise ConfigError(
            f"a sequence of {seq_len} tokens has {wanted} spans left out, and this tokenizer has "
            f"{len(tokenizer.sentinel_ids)} sentinels to stand for them",
            where="inputs.tokenizer",
            allowed=f"the control tokens <extra_id_0> to <extra_id_{wanted - 1}>, or more",
            do=f"set rules.num_sentinels={wanted} on the tokenizer node, or set a shorter seq_len",
        )
    sentinels = np.array(tokenizer.sentinel_ids, dtype=np.int64)
    return Spans(settings.spans, seed, sentinels, eos_id=tokenizer.eos_id, start_id=tokenizer.pad_id)
