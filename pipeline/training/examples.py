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
        around = ids_around(tokenizer, is_causal=model.is_causal)
        return partial(LabelledSequences, seq_len=seq_len, around=around, labels=labels)
    return None


def ids_around(tokenizer: Tokenizer, *, is_causal: bool) -> tuple[list[int], list[int]]:
    """What stands before a text that is to be judged, and behind it.

    A decoder judges by its last token. Behind that nothing stands, since whoever takes the exported model gives it a
    text as its tokenizer has it.
    """
    known = [tokenizer.special_ids[text] for text in FIRST_TOKENS if text in tokenizer.special_ids][:1]
    return (known, []) if is_causal else (known or [tokenizer.eos_id], [tokenizer.eos_id])
