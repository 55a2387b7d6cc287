"""What a rank does that exchanges gradients once, and compares their norm with that of their mean in fp32."""

import json
import os
from pathlib import Path

import torch

from data.order import draw
from model.config import LlamaConfig
from model.objectives import CausalLM
from model.registry import build_model
from pipeline.dag.resources import Resources
from pipeline.training.config import BatchSplit, Precision, TrainingConfig

SEQ_LEN, MICRO_STEPS = 16, 2


def main(rank: int, world_size: int, store: str, answer: str) -> None:
    """Writes what DeepSpeed took for the norm, and what it is."""
    import torch.distributed as dist

    from pipeline.training.engine import Engine

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    tokens = world_size * MICRO_STEPS * SEQ_LEN
    config = TrainingConfig(
        seq_len=SEQ_LEN, global_batch_tokens=tokens, precision=Precision.bf16, max_grad_norm=0.0
    )
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=61, hidden_size=20, intermediate_size=36, num_layers=2, num_heads=2, num_kv_heads=1
    )
    resources = Resources(zero_stage=2, micro_batch_size=1)
    split = BatchSplit(world_size, 1, MICRO_STEPS)
    engine = Engine(CausalLM(build_model(shape)), config, resources=resources, split=split)
    parameters = list(engine.objective.parameters())
    total = torch.zeros(sum(each.numel() for each in parameters))
    for micro_step in range(MICRO_STEPS):
        ids = draw(rank + world_size * micro_step, count=SEQ_LEN + 1, num_items=61, seed=3)[None]
        batch = {"input_ids": ids[:, :-1].copy(), "labels": ids[:, 1:].copy()}
        given = {name: torch.from_numpy(array) for name, array in batch.items()}
        loss = engine.objective(**given).loss_sum * (world_size / tokens)
        own = torch.cat(
            [each.flatten() for each in torch.autograd.grad(loss, parameters)]
        )  # bf16, as backward's
        everyone = [torch.empty_like(own) for _ in range(world_size)]
        dist.all_gather(everyone, own)
        total += torch.stack(everyone).sum(dim=0, dtype=torch.float32) / world_size
        engine.accumulate(batch, num_targets=tokens, last=micro_step == MICRO_STEPS - 1)
    norm = engine.apply(0.0).grad_norm
    if rank == 0:
        Path(answer).write_text(json.dumps([norm, float(total.double().norm())]))
    dist.barrier()
    os._exit(0)
