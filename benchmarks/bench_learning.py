"""Bits per byte of held-out text at equal wall time: the recipe `from_scratch` against a loop in nanoGPT's style.

The loop has the published settings of nanoGPT for a CPU (its README: 4 layers of 128, 12 windows of 64 tokens a step,
2,000 steps; the rest from config/train_shakespeare_char.py and train.py): GPT-2 in fp32, random windows of the text as
one row of tokens, AdamW with betas 0.9 and 0.99, a rate of 1e-3 that falls to 1e-4 over all steps after 100 of warm-up.
It runs to its end, and its seconds are what ours gets: as many tokens as a short training before made of them. Both
learn the same tokens, are timed over their steps alone, and are evaluated on all of the same held-out text, each in
sequences of its own length.

Limit: fewer bits per byte in the median round; each has its own seed.
"""

import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from from_scratch import base_of, prepare, tokenizer_in, tokens_in, train
from measure import Limit, Result, arguments, publish

from data.shards import TokenShards
from pipeline.training.allocation import ALLOCATION

BLOCK, BATCH, STEPS, WARMUP = 64, 12, 2000, 100
PEAK, LEAST = 1e-3, 1e-4


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--size", default="d2", help="of conf/size (default d2)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the loop (default {STEPS})")
    parser.add_argument("--settings", nargs="*", default=[], help="FIELD=VALUE of our training node")
    parser.add_argument("--store", type=Path, help="where the tokens lie, or are put (default: nowhere)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = (options.store or Path(temporary) / "store").absolute()
        prepare(store)
        os.environ |= ALLOCATION
        pace = in_process(pace_of, store, options.size, options.settings)
        rounds = [one_round(store, options, pace=pace, seed=seed) for seed in range(1, options.repeats + 1)]
    ours, theirs = zip(*rounds, strict=True)
    differences = [
        a["eval/bits_per_byte"] / b["eval/bits_per_byte"] for a, b in zip(ours, theirs, strict=True)
    ]
    limits = [Limit("bits per byte over the loop's", statistics.median(differences), most=1.0)]
    facts = {
        "size": options.size,
        "ours": [{name: each[name] for name in ("eval/bits_per_byte", "seconds")} for each in ours],
        "the loop's": list(theirs),
    }
    result = Result("learning at equal wall time", limits=limits, facts=facts)
    return 0 if publish([result], json_file=options.json) else 1


def in_process(function: Callable[..., Any], *given: Any) -> Any:
    """What it returns in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def pace_of(store: Path, size: str, settings: list[str]) -> float:
    """Tokens a second of a training of 30 steps."""
    stage = base_of(size, *settings, "num_tokens=null", "num_steps=30")
    return 30 * stage.global_batch_tokens / train(store, stage)["seconds"]


def one_round(
    store: Path, options: Any, *, pace: float, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    theirs = in_process(loop, store, options.steps, seed)
    num_tokens = int(theirs["seconds"] * pace)
    words = [*options.settings, f"num_tokens={num_tokens}", f"seed={seed}"]
    ours = in_process(train, store, base_of(options.size, *words))
    for name, found in (("headrace", ours), ("the loop", theirs)):
        shown = f"{found['eval/bits_per_byte']:.4f} bits per byte after {found['seconds']:.0f} s"
        print(f"round {seed}: {name}: {shown}", flush=True)
    return ours, theirs


def loop(store: Path, steps: int, seed: int) -> dict[str, float]:
    """The loop in nanoGPT's style, in this process."""
    import torch
    import torch.nn.functional as F

    from model.config import GPT2Config
    from model.registry import build_model

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    row, held_out = tokens_of(store, "train"), tokens_of(store, "validation")
    model = build_model(
        GPT2Config(
            vocab_size=tokenizer_in(store).vocab_size,
            hidden_size=128,
            intermediate_size=512,
            num_layers=4,
            num_heads=4,
            max_seq_len=BLOCK,
        )
    )
    matrices = [each for each in model.parameters() if each.dim() > 1]
    vectors = [each for each in model.parameters() if each.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99), fused=True)

    def loss_of(windows: torch.Tensor) -> torch.Tensor:
        logits = model(windows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())

    began = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps)
        starts = torch.randint(len(row) - BLOCK, (BATCH,))
        loss = loss_of(torch.stack([row[start : start + BLOCK + 1] for start in starts.tolist()]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.monotonic() - began
    model.eval()
    with torch.no_grad():
        num_windows = (len(held_out) - 1) // BLOCK
        windows = held_out[: num_windows * BLOCK + 1].unfold(0, BLOCK + 1, BLOCK)
        loss = statistics.fmean(loss_of(each[None]).item() for each in windows)
    shards = shards_of(store, "validation")
    bits = loss / math.log(2) * shards.num_tokens / shards.num_bytes
    return {"eval/bits_per_byte": bits, "seconds": seconds}


def rate_at(step: int, steps: int) -> float:
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    done = (step - WARMUP) / (steps - WARMUP)
    return LEAST + 0.5 * (1 + math.cos(math.pi * done)) * (PEAK - LEAST)


def shards_of(store: Path, part: str) -> TokenShards:
    return TokenShards(sorted((tokens_in(store) / part).glob("tokens-*.arrow")))


def tokens_of(store: Path, part: str) -> Any:
    """All of them in one row, int64 [N]."""
    import torch

    shards = shards_of(store, part)
    return torch.from_numpy(shards.tokens.read(0, shards.num_tokens).astype("int64"))


if __name__ == "__main__":
    sys.exit(main())
