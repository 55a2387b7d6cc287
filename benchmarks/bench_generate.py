"""Tokens a second of generation on the CPU: ours and transformers' generate, on the same weights.

Both continue the same random prompts greedily by the same number of tokens, from the same weights in the same
precision, at batch 1 and batch 16; transformers with its own defaults (a dynamic cache and its fused attention).
Nothing ends early. That both write the same tokens is checked in fp32 before anything is timed; in bf16 rounding
decides between tokens that are as likely, so there the share of equal rows is a fact of the table.

Limit: 1.3 times transformers.
"""

import sys
import tempfile
from pathlib import Path

import torch
import trainings
from measure import Result, arguments, compare, publish
from transformers import AutoModelForCausalLM, PreTrainedModel

from model.base import LanguageModel
from model.config import GPT2Config
from model.generation.generate import generate
from model.generation.settings import Generation
from model.hf import export_hf
from model.registry import build_model

LEAST = 1.3
SHAPES = {
    "llama_30m": trainings.MODEL,
    "gpt2_124m": GPT2Config(vocab_size=50257),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["llama_30m"])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    options = parser.parse_args()
    results = []
    for shape in options.shapes:
        for dtype in options.dtypes:
            ours, theirs = models(shape, DTYPES[dtype])
            results += [
                side_by_side(
                    f"{shape} in {dtype}, batch {batch}",
                    ours,
                    theirs,
                    prompts=torch.randint(1, ours.vocab_size, (batch, options.prompt_tokens)),
                    num_tokens=options.new_tokens,
                    repeats=options.repeats,
                )
                for batch in options.batches
            ]
    return 0 if publish(results, json_file=options.json) else 1


def models(shape: str, dtype: torch.dtype) -> tuple[LanguageModel, PreTrainedModel]:
    torch.manual_seed(0)
    ours = build_model(SHAPES[shape]).eval()
    with tempfile.TemporaryDirectory() as folder:
        export_hf(ours.state_dict(), ours.config, Path(folder))
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return ours.to(dtype), theirs


def side_by_side(
    title: str,
    ours: LanguageModel,
    theirs: PreTrainedModel,
    *,
    prompts: torch.Tensor,
    num_tokens: int,
    repeats: int,
) -> Result:
    batch, longest = prompts.shape
    settings = Generation(max_new_tokens=num_tokens)

    def by_us() -> list[list[int]]:
        return generate(ours, prompts.tolist(), settings)

    def by_them() -> list[list[int]]:
        rows = theirs.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return rows[:, longest:].tolist()

    equal = sum(a == b for a, b in zip(by_us(), by_them(), strict=True)) / batch
    assert equal == 1 or ours.embedding.weight.dtype != torch.float32, "in fp32 both write the same"
    total = batch * num_tokens
    return compare(
        title,
        {
            "headrace": lambda: float(total) if by_us() else None,
            "transformers": lambda: float(total) if by_them() else None,
        },
        unit="tokens",
        repeats=repeats,
        least_ratios={"transformers": LEAST},
        prompt_tokens=longest,
        new_tokens=num_tokens,
        threads=torch.get_num_threads(),
        equal_rows=equal,
    )


if __name__ == "__main__":
    sys.exit(main())
