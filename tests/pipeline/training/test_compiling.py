"""A compiled training: the losses of one that is not, resumed to the same bytes, and asked for only where it can be."""

import shutil
from dataclasses import replace

import pytest
import torch

from model.config import GPT2Config, LlamaConfig, RnnConfig
from model.registry import build_model
from pipeline.dag.resources import Recomputation, Resources
from pipeline.errors import ConfigError
from pipeline.training.compiling import LEAST_FLOPS, compile_blocks, has_compiler, is_compiled
from pipeline.training.config import Precision

CPU = torch.device("cpu")


def compiled(resources=None, *, model=None, zero_stage=1, flops=0.0, device=CPU):
    return is_compiled(
        model or build_model(GPT2Config(vocab_size=8, hidden_size=8, num_layers=1, num_heads=1)),
        resources or Resources(),
        zero_stage=zero_stage,
        flops_of_rank=flops,
        device=device,
    )


@pytest.fixture
def no_compiler():
    """No C++ compiler anywhere."""
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("/nowhere/g++",)}):
        yield


def test_where_nobody_says_long_runs_are_compiled_and_those_on_gpus():
    assert has_compiler()
    assert not compiled(flops=LEAST_FLOPS / 2)
    assert compiled(flops=LEAST_FLOPS)
    assert compiled(device=torch.device("cuda"))
    assert not compiled(flops=LEAST_FLOPS, zero_stage=3)
    assert not compiled(Resources(compile=False), flops=LEAST_FLOPS)
    assert compiled(Resources(compile=True))


def test_without_a_compiler_nothing_is_compiled_unless_asked_which_is_refused(no_compiler):
    assert not compiled(flops=LEAST_FLOPS)
    with pytest.raises(ConfigError, match="compiler"):
        compiled(Resources(compile=True))


def test_what_cannot_be_compiled_is_refused_where_it_is_asked_for():
    selective = Resources(activation_checkpointing=Recomputation.selective)
    recurrent = build_model(RnnConfig(vocab_size=8, hidden_size=8, num_layers=1))
    cases = {"ZeRO 3": {"zero_stage": 3}, "selective": {"resources": selective}, "rnn": {"model": recurrent}}
    for word, case in cases.items():
        assert not compiled(**case, flops=LEAST_FLOPS)
        asked = case | {"resources": replace(case.get("resources", Resources()), compile=True)}
        with pytest.raises(ConfigError, match=word) as refused:
            compiled(**asked)
        assert refused.value.where == "resources.compile"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "masked"), [(GPT2Config, True), (LlamaConfig, False)])
def test_a_block_is_one_graph_and_can_be_kept_for_the_next_start(kind, masked):
    from torch._dynamo.utils import counters  # two seconds that only this costs

    shape = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 128}
    shape |= {"num_kv_heads": 2, "intermediate_size": 64} if kind is LlamaConfig else {}
    model = build_model(kind(vocab_size=16, **shape))
    torch.compiler.reset()
    counters.clear()
    compile_blocks(model)
    input_ids = torch.zeros(2, 128, dtype=torch.int64)
    document_ids = torch.arange(128).expand(2, -1) // 50 if masked else None
    model.hidden(input_ids, document_ids=document_ids).sum().backward()
    assert counters["frames"]["ok"] == 1
    assert not counters["graph_break"]
    assert not counters["aot_autograd"]["autograd_cache_bypass"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "masked", "tolerance"),
    [pytest.param(Precision.fp32, True, 1e-4, marks=pytest.mark.soak), (Precision.bf16, False, 2e-2)],
)
def test_the_losses_are_those_of_a_training_that_is_not_compiled(
    here, make_job, precision, masked, tolerance
):
    job = make_job(num_steps=30, precision=precision, mask_documents=masked, eval_every_steps=10)
    here.run(job, "eager")
    here.run(job, "compiled", compile=True)
    assert here.losses("compiled") == pytest.approx(here.losses("eager"), abs=tolerance)


@pytest.mark.slow
def test_a_compiled_training_resumes_to_the_same_bytes(here, make_job):
    job = make_job(num_steps=12, precision=Precision.bf16)
    here.run(job, "whole", compile=True, checkpoint_every_steps=5)
    shutil.copytree(here.root / "whole", here.root / "resumed")
    shutil.rmtree(here.root / "resumed/output")
    shutil.rmtree(here.root / "resumed/scratch/step-00000012")
    torch.compiler.reset()
    here.run(job, "resumed", compile=True, checkpoint_every_steps=5)
    assert "resumed from the checkpoint of step 10" in here.notes()
    assert here.weights("resumed") == here.weights("whole")


@pytest.mark.slow
def test_gpt2_and_recomputed_activations_are_compiled_too(here, make_job):
    shape = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 64}
    job = make_job({"model": GPT2Config(vocab_size=None, **shape)})
    here.run(job, "eager")
    here.run(job, "compiled", compile=True, activation_checkpointing=Recomputation.full)
    assert here.losses("compiled") == pytest.approx(here.losses("eager"), abs=1e-4)


@pytest.mark.slow
def test_two_compiled_ranks_learn_what_one_does(runs, make_job):
    job = make_job(num_steps=20, mask_documents=True)
    runs.run([runs.order(job, "alone", zero_stage=0, micro_batch_size=2)], world_size=1)
    order = runs.order(job, "compiled", zero_stage=2, micro_batch_size=2, compile=True)
    runs.run([order], world_size=2)
    assert runs.losses("compiled") == pytest.approx(runs.losses("alone"), abs=1e-4)
