"""What a rank holds at its peak, against what `headrace plan` says beforehand: ZeRO 0 to 3, on one rank and two.

Measured are the bytes of tensors, as a GPU's allocator would count them: what lives between two steps, and on top of it
the highest point within a step, from torch's own record of every allocation. A checkpoint has been taken, and the norms
are taken in the step. The pages of a process say less: the C library keeps what it has freed.

Limit: within 10% for every combination.
"""

import gc
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure import Limit, Result, arguments, publish
from trainings import MODEL, on_ranks, order_in, write_tokens

from pipeline.dag.resources import Recomputation, Resources
from pipeline.training.config import Precision, TrainingConfig
from pipeline.training.fit import memory_with

TOLERANCE = 0.10
WARM_STEPS = 2


@dataclass(frozen=True)
class Case:
    ranks: int
    stage: int
    precision: str
    micro: int
    recompute: Recomputation

    def __str__(self) -> str:
        words = f"{self.precision}, ZeRO {self.stage}, {self.ranks} rank{'s' * (self.ranks > 1)}"
        return f"{words}, micro batch {self.micro}{self._recomputed}"

    @property
    def _recomputed(self) -> str:
        return "" if self.recompute is Recomputation.none else f", {self.recompute.name} recomputation"

    def resources(self) -> Resources:
        return Resources(
            num_workers=self.ranks,
            num_gpus=0,
            zero_stage=self.stage,
            micro_batch_size=self.micro,
            activation_checkpointing=self.recompute,
        )

    def training(self) -> TrainingConfig:
        return TrainingConfig(
            num_steps=10,
            warmup_steps=1,
            seq_len=512,
            global_batch_tokens=512 * self.micro * self.ranks * 2,
            precision=Precision[self.precision],
        )


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--stages", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"], choices=["bf16", "fp32"])
    parser.add_argument("--micro", nargs="+", type=int, default=[2])
    parser.add_argument("--recompute", default="none", choices=[each.name for each in Recomputation])
    options = parser.parse_args()
    limits, facts = [], {}
    for ranks in options.ranks:
        for precision in options.precisions:
            for stage in options.stages:
                for micro in options.micro:
                    case = Case(ranks, stage, precision, micro, Recomputation[options.recompute])
                    held, planned = measured(case), memory_with(MODEL, case.training(), case.resources())
                    limits.append(Limit(str(case), abs(held / planned.total - 1), most=TOLERANCE))
                    facts[str(case)] = {"MiB": held >> 20, "planned": planned.total >> 20}
                    print(limits[-1], facts[str(case)], flush=True)
    result = Result("memory of a rank, off what was planned", limits=limits, facts=facts)
    return 0 if publish([result], json_file=options.json) else 1


def measured(case: Case) -> int:
    """The most that a rank of the case holds, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder) / "tokens", rows=40)
        return max(on_ranks(_held, case, folder, world_size=case.ranks))


def _held(case: Case, folder: str) -> int:
    """The most that this rank holds, in bytes."""
    from pipeline.training.corpus import open_corpus
    from pipeline.training.hostcopy import HostCopy
    from pipeline.training.loop import train_step
    from pipeline.training.norms import Norms
    from pipeline.training.ranks import current_ranks
    from pipeline.training.worker import build_engine

    order = order_in(folder, case.training(), case.resources())
    ranks, corpus = current_ranks(), open_corpus(order.job, lambda _text: None)
    engine = build_engine(order, corpus.learned.vocab_size, ranks)
    norms = Norms(engine, 1, next_step=1, last_step=WARM_STEPS + 1)
    copy = HostCopy()

    def step(number: int) -> None:
        norms.offer(train_step(engine, corpus.learned.batches, ranks=ranks, step=number, learning_rate=1e-3))

    for number in range(WARM_STEPS):
        step(number)
    copy.take(engine)
    return living() + _highest(lambda: step(WARM_STEPS))


def living() -> int:
    """Bytes of all tensors that there are."""
    import torch

    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if issubclass(type(each), torch.Tensor) and each.device.type == "cpu":
            storage = each.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _highest(function: Callable[[], None]) -> int:
    """The most bytes that `function` holds at once beyond those that are there when it begins."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        function()
    events = found.profiler.kineto_results.events()
    changes = sorted((each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]")
    held = highest = 0
    for _, change in changes:
        held += change
        highest = max(highest, held)
    return highest


if __name__ == "__main__":
    sys.exit(main())
