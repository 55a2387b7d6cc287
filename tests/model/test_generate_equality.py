"""Token for token what transformers writes: 50 prompts of GPT-2, LLaMA and T5, greedily and by beam search."""

from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from model.encoder_decoder import EncoderDecoder
from model.generation.settings import EarlyStopping

VOCAB, LONGEST, NEW = 97, 12, 16


@pytest.fixture(scope="module")
def prompts():
    torch.manual_seed(1)
    lengths = torch.randint(1, LONGEST + 1, (50,)).tolist()
    return [torch.randint(VOCAB, (length,)).tolist() for length in lengths]


@pytest.fixture
def both(exportable_writer, to_reference, write, prompts):
    """What we write and what transformers does, for settings of ours and theirs."""
    model = exportable_writer
    is_pair = isinstance(model, EncoderDecoder)
    reference = to_reference(model, AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM, pad_id=0)

    given = {"max_new_tokens": NEW, "start_id": 0 if is_pair else None}
    seventh = Counter(row[7] for row in write(model, prompts, **given))
    frequent = [token for token, _ in seventh.most_common(3)]

    def run(*, eos_ids=frequent, theirs=(), **settings):
        ours = write(model, prompts, eos_ids=eos_ids, **given, **settings)
        padding = [[0] * (LONGEST - len(prompt)) for prompt in prompts]
        rows = reference.generate(
            torch.tensor([[*pad, *prompt] for pad, prompt in zip(padding, prompts, strict=True)]),
            attention_mask=torch.tensor([
                [*pad, *[1] * len(prompt)] for pad, prompt in zip(padding, prompts, strict=True)
            ]),
            max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=list(eos_ids) or None,
            **settings | dict(theirs),
        ).tolist()  # fmt: skip
        return ours, [_cut(row[1 if is_pair else LONGEST :], eos_ids) for row in rows]

    return run


def _cut(row, eos_ids):
    ends = [place for place, token in enumerate(row) if token in eos_ids]
    return row[: ends[0] + 1] if ends else row


def test_greedy(both):
    ours, theirs = both()
    assert ours == theirs
    assert len({tuple(row) for row in ours}) >= 20
    assert len({len(row) for row in ours}) > 2


def test_greedy_with_a_repetition_penalty(both):
    ours, theirs = both(repetition_penalty=1.7)
    assert ours == theirs
    assert ours != both()[0]


@pytest.mark.parametrize("eos_ids", [(), (11,), tuple(range(0, VOCAB, 9))], ids=len)
def test_beams_with_other_ends(both, eos_ids):
    ours, theirs = both(num_beams=3, eos_ids=eos_ids)
    assert ours == theirs


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.5, 2.0])
def test_beams(both, length_penalty):
    ours, theirs = both(num_beams=4, length_penalty=length_penalty)
    assert ours == theirs
    assert ours != both()[0]


def test_beams_with_a_penalty(both):
    ours, theirs = both(num_beams=3, repetition_penalty=1.3)
    assert ours == theirs


@pytest.mark.parametrize(("early_stopping", "theirs"), [("full", True), ("never", "never")])
def test_beams_that_end_otherwise(both, early_stopping, theirs):
    ours, theirs = both(
        num_beams=3,
        length_penalty=1.5,
        early_stopping=EarlyStopping[early_stopping],
        theirs={"early_stopping": theirs},
    )
    assert ours == theirs
