"""A model that reads prompts whole: its cache gives what a full forward with that prefix gives."""

from dataclasses import replace

import pytest
import torch

from model.config import GPT2Config, LlamaConfig

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_layers": 2,
    "num_heads": 4,
    "max_seq_len": 48,
    "prefix_lm": True,
}
READERS = {
    "gpt2": GPT2Config(**SHAPE),
    "llama": LlamaConfig(**SHAPE, num_kv_heads=2),
    "mistral": LlamaConfig(**SHAPE, num_kv_heads=2, sliding_window=5),
}
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [3], [90, 91, 92, 93]]


@pytest.fixture(params=READERS)
def reader(request, make_model):
    return make_model(READERS[request.param])


def going_on(model, prompt, count):
    """Greedy, with all that is there read again for each token."""
    ids = list(prompt)
    for _ in range(count):
        prefix = torch.arange(len(ids)) < len(prompt)
        with torch.no_grad():
            logits = model(torch.tensor([ids]), prefix_mask=prefix[None].long())
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_prompts_of_a_batch_are_each_read_whole(reader, write):
    written = write(reader, PROMPTS, max_new_tokens=20)
    assert written == [going_on(reader, prompt, 20) for prompt in PROMPTS]
    assert write(reader, PROMPTS[:1], max_new_tokens=20) == written[:1]


def test_beams_of_a_prompt_are_the_same_alone_and_in_a_batch(reader, write):
    settings = {"max_new_tokens": 12, "num_beams": 3}
    together = write(reader, PROMPTS, **settings)
    assert together == [write(reader, [prompt], **settings)[0] for prompt in PROMPTS]


def test_a_causal_model_of_the_same_weights_answers_otherwise(reader, write, make_model):
    causal = make_model(replace(reader.config, prefix_lm=False))
    causal.load_state_dict(reader.state_dict())
    assert write(causal, PROMPTS[:1], max_new_tokens=20) != write(reader, PROMPTS[:1], max_new_tokens=20)
    assert write(causal, PROMPTS[1:2], max_new_tokens=20) == write(reader, PROMPTS[1:2], max_new_tokens=20)
