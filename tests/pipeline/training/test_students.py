"""A student as a user asks for it: composed, planned and trained beside the node that is its teacher."""

import json
import time
from pathlib import Path

import pytest

from model.weights import load_weights
from pipeline.cli import main
from pipeline.config import compose_recipe
from pipeline.dag.folder import open_folder
from pipeline.dag.graph import Graph
from pipeline.dag.lineage import gather_inputs
from pipeline.dag.resources import Resources
from pipeline.dag.stage import StageContext
from pipeline.errors import ConfigError
from pipeline.training.memory import GIB
from tests.pipeline.conftest import Silence, serial_map
from tests.pipeline.verbs.processes import headrace_process

STUDENT = """\
  student:
    inputs: {tokens: tokens/train, tokenizer: tokenizer, teacher: base}
    model: {hidden_size: 16, intermediate_size: 32, num_layers: 1, num_heads: 2, num_kv_heads: 1, max_seq_len: 64}
    seq_len: 32
    global_batch_tokens: 64
    num_steps: 2
    warmup_steps: 1
    precision: fp32
    distillation: {temperature: 3.0}
  tuned:
    inputs: {model: base, tokens: pair_tokens/train, teacher: base}
    seq_len: 64
    global_batch_tokens: 128
    num_steps: 2
    warmup_steps: 1
    precision: fp32
    distillation: {soft_weight: 1.0, hidden_weight: 0.5}
"""
NODES = """\
  - /stage/pretrain@stages.student
  - /model/llama_tiny@stages.student.model
  - /stage/finetune@stages.tuned
  - _self_
"""


def with_students(store):
    recipe = store.recipe.read_text().replace("  - _self_\n", NODES)
    store.recipe.write_text(recipe + STUDENT)
    return store


@pytest.fixture(scope="module")
def taught(make_tiny):
    """The tiny recipe with two nodes that learn from its model, which is there already."""
    store = with_students(make_tiny())
    store.artifacts = store.build(["base", "pair_tokens"])
    return store


@pytest.mark.parametrize(
    ("overrides", "words", "where"),
    [
        (["distillation.soft_weight=2"], "soft_weight is 2.0", "distillation.soft_weight"),
        (["distillation.hidden_weight=1"], "cannot be drawn to those of a", "distillation.hidden_weight"),
        (["inputs.teacher="], "how to learn from a teacher, and there is none", "distillation"),
        (["inputs.teacher=tokens"], "checkpoint", "inputs.teacher"),
        (["model.vocab_size=400"], "320 tokens apart, and the student 400", "inputs.teacher"),
    ],
)
def test_what_cannot_be_taught_is_refused_before_anything_runs(taught, overrides, words, where):
    known = ["stages.base.model.vocab_size=320"]
    composed = compose_recipe([*taught.overrides, *known, *(f"stages.student.{each}" for each in overrides)])
    with pytest.raises(ConfigError) as refused:
        Graph(composed.config.stages)
    assert words in f"{refused.value.what} {refused.value.allowed}"
    assert refused.value.where == f"stages.student.{where}"
    assert refused.value.do


def test_a_teacher_is_in_the_plan(taught, capsys):
    assert main(["plan", "student", "tuned", "--json", *taught.overrides]) == 0
    nodes = {node["node"]: node["estimate"] for node in json.loads(capsys.readouterr().out)["nodes"]}
    parameters = sum(
        tensor.numel() for tensor in load_weights(taught.artifacts["base"].folder.local())[1].values()
    )
    for node in ("student", "tuned"):
        assert nodes[node]["GiB teacher"] * GIB == pytest.approx(4 * parameters)
    assert "GiB teacher" not in nodes["base"]


@pytest.mark.parametrize("node", ["student", "tuned"])
def test_a_student_learns_from_what_its_node_names(taught, node, tmp_path, process_group, monkeypatch):
    """One rank in this process in place of Ray's workers; all else is the stage's own."""
    from pipeline.training import worker, workers

    jobs = []

    def here(job, *, channel, places, vocab_size, **_):
        jobs.append(job)
        workers.check_job(job, vocab_size=vocab_size)
        order = worker.Order(job, Resources(), channel, places.scratch, places.output, time.time())
        return worker.work(order)

    monkeypatch.setattr(workers, "launch", here)
    graph = Graph(compose_recipe(taught.overrides).config.stages)
    context = StageContext(
        node=node,
        key="0" * 32,
        inputs=gather_inputs(graph, node, taught.artifacts),
        output=open_folder(str(tmp_path / "output")),
        scratch=open_folder(str(tmp_path / "scratch")),
        resources=Resources(),
        channel=Silence(),
        map=serial_map,
    )
    result = graph.stages[node].run(context)
    assert result.counters["steps"] == 2
    assert jobs[0].teacher == taught.artifacts["base"].folder
    assert Path(tmp_path / "output/model.safetensors").exists()


@pytest.mark.soak
def test_students_are_trained_on_ray(make_tiny, tmp_path):
    store = with_students(make_tiny())
    done = headrace_process(tmp_path, "run", "student", "tuned", "--json", *store.overrides)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["failed"] == 0
