"""Tokens a second of a 32M LLaMA on one CPU rank, in bf16 or fp32: our loop against bare loops and other trainers.

Ours is the whole thing: loader, DeepSpeed engine, records, norms. The bare loops have the same model, precision (in
bf16: its weights, and fp32 weights and states in the optimizer) and optimizer, and nothing else; the Hugging Face
Trainer and litgpt run their own loops on their own models of the same shape. Each has a process, and waits at its data
loader until it is its turn to make so many steps. Freed memory is kept for the next step in ours, and so it is in the
bare loops and in the peers at their best settings.

Limits: 0.97 of the fastest bare loop; 1.1 times the peers at their best settings, 1.4 times at their defaults.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import arguments, compare, publish
from plain_loop import plain_loop
from trainings import MODEL, NEVER, VOCAB_SIZE, endless, in_turn, order_in, write_tokens

from pipeline.dag.resources import Resources

SEQUENCES, SEQ_LEN = 4, 512
TOKENS = SEQUENCES * SEQ_LEN
BARE, BEST, DEFAULT = 0.97, 1.1, 1.4
Turns = Callable[[Callable[[], Any]], Iterator[Any]]
"""From a function that makes a batch, the batches of the turns that come."""


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--steps", type=int, default=2, help="of each turn (default 2)")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--only", nargs="+", default=list(TRAINERS), choices=TRAINERS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder) / "tokens")
        os.chdir(folder)
        turns = {"steps": options.steps, "units": options.steps * TOKENS, "world_size": 1}
        contenders = {
            name: in_turn(
                trainer,
                folder,
                options.precision,
                **turns,
                **({"environment": {}} if "default" in name else {}),
            )
            for name, trainer in TRAINERS.items()
            if name in options.only
        }
        peers = {name: LEAST[name] for name in contenders if name in LEAST}
        result = compare(
            f"training a 32M LLaMA in {options.precision}",
            contenders,
            unit="tokens",
            repeats=options.repeats,
            warmups=2,
            least_ratios=peers,
        )
    return 0 if publish([result], json_file=options.json) else 1


def _tokens() -> torch.Tensor:
    return torch.randint(VOCAB_SIZE, (SEQUENCES, SEQ_LEN + 1))


def headrace(turns: Turns, folder: str, precision: str) -> None:
    from pipeline.training.pulse import Pulse
    from pipeline.training.ranks import current_ranks
    from pipeline.training.worker import assemble

    config = endless(SEQ_LEN, TOKENS, precision)
    order = order_in(folder, config, Resources(num_gpus=0, micro_batch_size=SEQUENCES))
    steps = iter(range(NEVER))
    assemble(order, current_ranks(), Pulse()).run(turns(lambda: next(steps)))


def bare(turns: Turns, _folder: str, precision: str, *, compiled: str) -> None:
    from model.decoder import decoder
    from pipeline.training.compiling import compile_blocks

    def around(objective: Any) -> Any:
        if compiled == "blocks":
            compile_blocks(decoder(objective.model))
        return torch.compile(objective) if compiled == "whole" else objective

    plain_loop(turns(_tokens), precision=precision, around=around, num_tokens=TOKENS)


def hugging_face(turns: Turns, folder: str, precision: str, *, compiled: bool) -> None:
    """Its Trainer on its LLaMA, weights in fp32, and where bf16 is asked for, mathematics in it by autocast."""
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=MODEL.hidden_size,
            intermediate_size=MODEL.intermediate_size,
            num_hidden_layers=MODEL.num_layers,
            num_attention_heads=MODEL.num_heads,
            num_key_value_heads=MODEL.num_kv_heads,
            max_position_embeddings=MODEL.max_seq_len,
            tie_word_embeddings=True,
            use_cache=False,
        )
    )
    settings = TrainingArguments(
        output_dir=f"{folder}/transformers",
        per_device_train_batch_size=SEQUENCES,
        max_steps=10**6,
        bf16=precision == "bf16",
        use_cpu=True,
        torch_compile=compiled,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )

    def batch() -> dict[str, torch.Tensor]:
        tokens = _tokens()[:, :-1]
        return {"input_ids": tokens, "labels": tokens}

    class InTurn(Trainer):
        def get_train_dataloader(self) -> Any:
            return turns(batch)

    InTurn(model, settings).train()


def litgpt(turns: Turns, folder: str, precision: str, *, default: bool) -> None:
    """Its `pretrain`, which compiles its model; its default is a precision that it chooses itself."""
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import DataModule
    from litgpt.pretrain import setup
    from torch.utils.data import DataLoader, IterableDataset

    class InTurn(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return turns(_tokens)

    class Tokens(DataModule):
        def connect(self, *_args: Any, **_settings: Any) -> None:
            """Nothing to connect."""

        def train_dataloader(self) -> Any:
            return DataLoader(InTurn(), batch_size=None)

        def val_dataloader(self) -> Any:
            return DataLoader([_tokens()] * 4, batch_size=None)

    train = TrainArgs(
        global_batch_size=SEQUENCES,
        micro_batch_size=SEQUENCES,
        max_tokens=NEVER,
        max_seq_length=SEQ_LEN,
        max_norm=1.0,
        lr_warmup_steps=1,
        tie_embeddings=True,
        save_interval=None,
        log_interval=1000,
    )
    setup(
        "llama-32m",
        model_config=_of_litgpt(),
        out_dir=Path(folder) / f"litgpt-{default}",
        precision=None if default else {"bf16": "bf16-mixed", "fp32": "32-true"}[precision],
        data=Tokens(),
        train=train,
        eval=EvalArgs(interval=NEVER, max_iters=1),
        logger_name="csv",
        devices=1,
    )


def _of_litgpt() -> Any:
    """`MODEL` in its words."""
    from litgpt import Config

    return Config(
        name="llama-32m",
        block_size=SEQ_LEN,
        padded_vocab_size=VOCAB_SIZE,
        n_layer=MODEL.num_layers,
        n_embd=MODEL.hidden_size,
        n_head=MODEL.num_heads,
        n_query_groups=MODEL.num_kv_heads,
        intermediate_size=MODEL.intermediate_size,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )


TRAINERS: dict[str, Callable[..., None]] = {
    "headrace": headrace,
    "bare, compiled": partial(bare, compiled="whole"),
    "bare, blocks compiled": partial(bare, compiled="blocks"),
    "bare, eager": partial(bare, compiled=""),
    "transformers, compiled": partial(hugging_face, compiled=True),
    "transformers, default": partial(hugging_face, compiled=False),
    "litgpt": partial(litgpt, default=False),
    "litgpt, default": partial(litgpt, default=True),
}
LEAST = {
    "bare, compiled": BARE,
    "bare, blocks compiled": BARE,
    "bare, eager": BARE,
    "transformers, compiled": BEST,
    "transformers, default": DEFAULT,
    "litgpt": BEST,
    "litgpt, default": DEFAULT,
}

if __name__ == "__main__":
    sys.exit(main())
