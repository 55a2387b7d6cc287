"""Two ranks at ZeRO 2 against two ranks of plain DistributedDataParallel: speed, and what gradients and states take.

Both train a 32M LLaMA on two CPU ranks of one thread each, nothing compiled, with fused AdamW and clipping; ours is the
whole thing. In bf16 the plain loop's gradients are averaged in bf16, ours in fp32, which is twice the bytes. They take
turns. Memory is what lives when the gradients are whole and the optimizer has its
states, less the weights that compute, in processes of their own.

Limits: 0.95 of its speed; half its memory, and 5% of it for buckets and norms.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_memory import living
from bench_speed import Turns
from measure import Limit, arguments, compare, publish
from plain_loop import plain_loop
from trainings import MODEL, NEVER, VOCAB_SIZE, endless, in_turn, on_ranks, order_in, write_tokens

from pipeline.dag.resources import Resources

RANKS, SEQUENCES, SEQ_LEN = 2, 2, 512
TOKENS = RANKS * SEQUENCES * SEQ_LEN
SPEED, MEMORY = 0.95, 0.55


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"], choices=["bf16", "fp32"])
    parser.add_argument("--steps", type=int, default=2, help="of each turn (default 2)")
    options = parser.parse_args()
    results = []
    for precision in options.precisions:
        with tempfile.TemporaryDirectory() as folder:
            write_tokens(Path(folder) / "tokens")
            held = {
                name: max(on_ranks(_held, trainer, folder, precision, world_size=RANKS))
                for name, trainer in TRAINERS.items()
            }
            turns = {
                "steps": options.steps,
                "units": options.steps * TOKENS,
                "world_size": RANKS,
                "threads": 1,
            }
            contenders = {
                name: in_turn(trainer, folder, precision, None, **turns) for name, trainer in TRAINERS.items()
            }
            result = compare(
                f"two ranks, {precision}",
                contenders,
                unit="tokens",
                repeats=options.repeats,
                warmups=2,
                least_ratios={PLAIN: SPEED},
                **{f"{name}, MiB": value >> 20 for name, value in held.items()},
            )
        ratio = held["headrace"] / held[PLAIN]
        result.limits.append(Limit("memory of gradients and states", ratio, most=MEMORY))
        results.append(result)
    return 0 if publish(results, json_file=options.json) else 1


def _held(trainer: Callable[..., None], folder: str, precision: str) -> int:
    """Bytes of gradients and optimizer states of a rank, in the second step."""
    from model.flops import num_parameters

    held: list[int] = []

    def twice(batch: Callable[[], Any]) -> Iterator[Any]:
        return (batch() for _ in range(2))

    trainer(twice, folder, precision, lambda: held.append(living()))
    return held[-1] - (2 if precision == "bf16" else 4) * num_parameters(MODEL)


def _tokens() -> torch.Tensor:
    return torch.randint(VOCAB_SIZE, (SEQUENCES, SEQ_LEN + 1))


def headrace(turns: Turns, folder: str, precision: str, look: Callable[[], None] | None) -> None:
    """Looked at between backward and optimizer, as is the other."""
    from pipeline.training.pulse import Pulse
    from pipeline.training.ranks import current_ranks
    from pipeline.training.worker import assemble

    config = endless(SEQ_LEN, TOKENS, precision)
    settings = Resources(
        num_gpus=0, num_workers=RANKS, micro_batch_size=SEQUENCES, zero_stage=2, compile=False
    )
    training = assemble(order_in(folder, config, settings), current_ranks(), Pulse())
    apply = training.engine.apply

    def looked_at(learning_rate: float) -> Any:
        if look:
            look()
        return apply(learning_rate)

    training.engine.apply = looked_at  # type: ignore[method-assign]
    steps = iter(range(NEVER))
    training.run(turns(lambda: next(steps)))


def plain(turns: Turns, _folder: str, precision: str, look: Callable[[], None] | None) -> None:
    from torch.nn.parallel import DistributedDataParallel

    plain_loop(
        turns(_tokens),
        precision=precision,
        around=partial(DistributedDataParallel, gradient_as_bucket_view=True),
        num_tokens=TOKENS // RANKS,  # gradients are averaged over ranks, not summed
        look=look,
    )


PLAIN = "DistributedDataParallel"
TRAINERS: dict[str, Callable[..., None]] = {"headrace": headrace, PLAIN: plain}

if __name__ == "__main__":
    sys.exit(main())
