"""Small models of every family with one tokenizer, and what an evaluation finds of them."""

import json
from collections.abc import Sequence
from pathlib import Path

from data.examples import Example, token_format, tokenize_example
from data.shards import TokenRow, TokenWriter
from data.tokenizer import Tokenizer
from model.config import (
    BertConfig,
    GPT2Config,
    LlamaConfig,
    ModelConfig,
    RnnConfig,
    RnnEncoderConfig,
    RnnSeq2SeqConfig,
    T5Config,
    TransformerConfig,
)
from pipeline.dag.folder import Folder, open_folder
from pipeline.stages.evaluate import Evaluate, evaluate_model

SHAPE = {"hidden_size": 32, "num_layers": 2, "max_seq_len": 64}
HEADS = SHAPE | {"intermediate_size": 64, "num_heads": 4}
MODELS: dict[str, ModelConfig] = {
    "gpt2": GPT2Config(**HEADS),
    "bert": BertConfig(**HEADS),
    "roberta": BertConfig(**HEADS, num_token_types=1),
    "bare": BertConfig(**HEADS, masked_lm_head=False),
    "classifier": BertConfig(**HEADS, masked_lm_head=False, classes=["odd", "even"]),
    "regressor": BertConfig(**HEADS, masked_lm_head=False, classes=["depth"]),
    "roberta_classifier": BertConfig(
        **HEADS, masked_lm_head=False, num_token_types=1, classes=["a", "b", "c"]
    ),
    "t5": T5Config(**HEADS, head_dim=8),
    "transformer": TransformerConfig(**HEADS),
    "rnn": RnnConfig(**SHAPE),
    "rnn_encoder": RnnEncoderConfig(**SHAPE, masked_lm_head=True),
    "gpt2_classifier": GPT2Config(**HEADS, classes=["odd", "even"]),
    "llama_classifier": LlamaConfig(**HEADS, num_kv_heads=2, head_dim=8, classes=["odd", "even"]),
    "rnn_classifier": RnnEncoderConfig(**SHAPE, classes=["odd", "even"]),
    "rnn_seq2seq": RnnSeq2SeqConfig(**SHAPE),
    "prefix_lm": LlamaConfig(**HEADS, num_kv_heads=2, head_dim=8, sliding_window=24, prefix_lm=True),
}
TEXTS = [
    f"the wheel of mill number {number} turns by the river, and the gate is {number}" for number in range(30)
]


def write_examples(folder: Path, tokenizer: Tokenizer, responses: Sequence[str]) -> list[TokenRow]:
    """The texts as prompts of examples, with these responses in turn; the rows as they are written."""
    rows = []
    kept = token_format(tokenizer, has_loss_mask=True)
    with TokenWriter(folder / "tokens-00000.arrow", token_format=kept) as writer:
        for number, text in enumerate(TEXTS):
            example = Example(str(number), "made", text + "\n", responses[number % len(responses)])
            row = tokenize_example(example, tokenizer=tokenizer)
            assert isinstance(row, TokenRow)
            writer.write(row)
            rows.append(row)
    return rows


NUMBERED = [f"it is {number}" for number in range(len(TEXTS))]
"A response of its own for each text."


class Silence:
    def send(self, event: dict) -> None:
        pass


def evaluated(model: Folder, tokens: Folder, output: Path, *, seq_len: int = 32) -> dict:
    names = ["tokens-00000.arrow"]
    settings = Evaluate(seq_len=seq_len, max_new_tokens=4, num_samples=1)
    evaluate_model(model, tokens, names, settings, 2, open_folder(str(output)), Silence())
    return json.loads((output / "report.json").read_text())
