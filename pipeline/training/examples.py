"""What an objective makes of examples, with the ids of its tokenizer. No torch, so that a look costs nothing."""

from functools import partial

from data.pair_rows import LabelledSequences, PairSequences, class_labels, number_labels
from data.tokenizer import Tokenizer
from model.config import ModelConfig, classes_of
from pipeline.training.objective import OF_TEXTS, Objective
from pipeline.training.sources import PoolOfExamples

FIRST_TOKENS = ("[CLS]", "<s>")
"What stands before a text in published encoders; in others the end of the text before it."


def pool_of_examples(
    objective: Objective, model: ModelConfig, tokenizer: Tokenizer, *, seq_len: int
) -> PoolOfExamples | None:
    """None where an example is one text."""
    if objective is Objective.seq2seq_lm:
        return partial(PairSequences, seq_len=seq_len, start_id=tokenizer.pad_id)
    if objective in OF_TEXTS:
        names = classes_of(model)
        ids = {tuple(tokenizer.encode(name).tolist()): place for place, name in enumerate(names)}
        is_number = objective is Objective.regression
        labels = number_labels(tokenizer.decode) if is_number else class_labels(ids)
        return partial(LabelledSequences, seq_len=seq_len, first_id=first_id(tokenizer), labels=labels)
    return None


def first_id(tokenizer: Tokenizer) -> int:
    """What stands before a text that is to be judged."""
    known = (tokenizer.special_ids.get(text) for text in FIRST_TOKENS)
    return next((id_ for id_ in known if id_ is not None), tokenizer.eos_id)
