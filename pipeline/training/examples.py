"""What an objective makes of examples, with the ids of its tokenizer. No torch, so that a look costs nothing."""

from functools import partial

from data.pair_rows import LabelledSequences, PairSequences
from data.tokenizer import Tokenizer
from model.config import ModelConfig, classes_of
from pipeline.training.objective import Objective
from pipeline.training.sources import PoolOfExamples

FIRST_TOKENS = ("[CLS]", "<s>")
"What stands before a text in published encoders; in others the end of the text before it."


def pool_of_examples(
    objective: Objective, model: ModelConfig, tokenizer: Tokenizer, *, seq_len: int
) -> PoolOfExamples | None:
    """None where an example is one text."""
    if objective is Objective.seq2seq_lm:
        return partial(PairSequences, seq_len=seq_len, start_id=tokenizer.pad_id)
    if objective is Objective.classification:
        return partial(
            LabelledSequences,
            seq_len=seq_len,
            first_id=first_id(tokenizer),
            class_ids={
                tuple(tokenizer.encode(name).tolist()): place for place, name in enumerate(classes_of(model))
            },
        )
    return None


def first_id(tokenizer: Tokenizer) -> int:
    """What stands before a text that is to be classified."""
    known = (tokenizer.special_ids.get(text) for text in FIRST_TOKENS)
    return next((id_ for id_ in known if id_ is not None), tokenizer.eos_id)
