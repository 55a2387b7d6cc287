"""What `plan` can say of a training before it runs: its length in epochs of tokens that are there."""

import dataclasses
import json

import pytest

from data.corruption import SpanCorruption, TokenMasking
from model.config import CONFIGS, LlamaConfig
from pipeline.dag.folder import open_folder
from pipeline.dag.foresight import Source
from pipeline.dag.resources import Resources
from pipeline.dag.store import Manifest, ManifestFile
from pipeline.stages.finetune import Finetune
from pipeline.stages.pretrain import Pretrain
from pipeline.stages.training_node import ranks_here, sequences_ahead, training_config
from pipeline.training.config import Packing
from pipeline.training.objective import DEFAULTS, Objective
from pipeline.training.pace import Pace, Paces, conditions, cpu_name

TOKENS = Manifest(
    stage="tokenize",
    key="k",
    kind="tokens",
    node="tokens",
    payload={},
    inputs={},
    files=[
        ManifestFile("train/tokens-00000.arrow", 900, "a"),
        ManifestFile("test/tokens-00000.arrow", 100, "b"),
    ],
    counters={"tokens": 100_000, "rows": 500},
)


@pytest.mark.parametrize(
    ("reference", "packing", "wanted"),
    [
        ("tokens/train", Packing.concatenate, 900),
        ("tokens", Packing.concatenate, 1000),
        ("tokens/train", Packing.best_fit, 900),
        ("tokens/test", Packing.pad, 50),
        ("tokens/train", None, 450),
    ],
)
def test_sequences_are_counted_by_the_share_of_the_part(reference, packing, wanted):
    assert sequences_ahead([reference], [TOKENS], seq_len=100, packing=packing) == wanted


def test_sources_add_up_and_one_that_is_not_built_leaves_all_unknown():
    references = ["tokens/train", "tokens/test"]
    ahead = {"seq_len": 100, "packing": Packing.concatenate}
    assert sequences_ahead(references, [TOKENS, TOKENS], **ahead) == 1000
    assert sequences_ahead(references, [TOKENS], **ahead) is None


def test_a_training_in_epochs_is_estimated_once_its_tokens_are_built():
    stage = Pretrain(num_epochs=3.0, seq_len=100, global_batch_tokens=1000)
    stage.inputs = dataclasses.replace(stage.inputs, tokens="tokens/train")
    assert stage.estimate({"tokens": [TOKENS]}, Resources()) == {"steps": 270, "tokens": 270_000}
    assert stage.estimate({"tokens": []}, Resources()) == {}


def test_a_measured_training_is_planned_by_its_measurement(tmp_path):
    measured, resources = open_folder(str(tmp_path)), Resources(num_workers=1)
    stage = Pretrain(num_steps=100, warmup_steps=1, seq_len=64, global_batch_tokens=1024)
    stage.model = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=4
    )
    config = training_config(stage)

    def foreseen():
        return stage.foresee({}, resources, measured=measured, sources={})

    assert foreseen().seconds is None
    pace = Pace(cpu_name(), 0.5, 1 << 20, 1e9, 0.2, 2)
    Paces(measured).remember(conditions(stage.model, config, ranks_here(config, resources)), pace)
    assert foreseen().seconds == 50
    assert foreseen().figures["seconds per step"] == 0.5
    assert foreseen().remarks[-1].startswith("measured on ")
    stage.num_steps = 300
    assert foreseen().seconds == 150
    stage.model.num_layers = 3
    assert foreseen().remarks[-1].startswith("a guess: ")
    assert foreseen().seconds == pytest.approx(foreseen().figures["flops"] / 1e9)


def pretrain(architecture: str, **settings: object) -> Pretrain:
    return Pretrain(model=CONFIGS[architecture](), seq_len=100, global_batch_tokens=1000, **settings)


@pytest.mark.parametrize("architecture", [name for name, kind in CONFIGS.items() if not kind.is_causal])
def test_a_model_that_does_not_continue_text_is_not_pretrained_to(architecture):
    (problem,) = pretrain(architecture, objective=Objective.causal_lm).problems()
    assert problem.field == "objective"
    assert f"a {architecture} model cannot be trained with causal_lm" in problem.what
    assert "for causal_lm: gpt2, llama, rnn" in problem.allowed
    assert DEFAULTS[architecture].name in problem.do


@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_architecture_has_an_objective_of_its_own(architecture):
    problems = pretrain(architecture).problems()
    assert [each.field for each in problems] == (
        ["model.masked_lm_head"] if architecture == "rnn_encoder" else []
    )


def test_an_objective_that_is_left_open_is_no_part_of_a_training_s_identity():
    added = {"objective", "masking", "spans", "label_smoothing"}
    assert not added & pretrain("llama").identity().keys()
    assert added & pretrain("bert", objective=Objective.masked_lm).identity().keys() == {"objective"}


@pytest.mark.parametrize(
    ("architecture", "settings", "field"),
    [
        ("t5", {"packing": Packing.best_fit}, "packing"),
        ("t5", {"mask_documents": True}, "mask_documents"),
        ("bert", {"masking": TokenMasking(fraction=1.5)}, "masking.fraction"),
        ("t5", {"spans": SpanCorruption(mean_span=0.5)}, "spans.mean_span"),
        ("t5", {"label_smoothing": 1.0}, "label_smoothing"),
        ("rnn", {"objective": Objective.prefix_lm}, "objective"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(architecture, settings, field):
    assert [each.field for each in pretrain(architecture, **settings).problems()] == [field]


def test_a_model_that_reads_prompts_whole_learns_that_by_its_own_objective():
    stage = pretrain("gpt2")
    stage.model.prefix_lm = True
    assert stage.objective_of(stage.model) is Objective.prefix_lm
    assert stage.problems() == []
    stage.objective = Objective.causal_lm
    assert [each.field for each in stage.problems()] == ["model.prefix_lm"]


@pytest.mark.parametrize("architecture", [name for name in CONFIGS if name != "rnn_encoder"])
def test_every_training_is_foreseen(tmp_path, architecture):
    stage = pretrain(architecture)
    stage.model.vocab_size, stage.model.num_layers = 500, 2
    found = stage.foresee({}, Resources(num_workers=1), measured=open_folder(str(tmp_path)), sources={})
    assert found.figures["GiB activations"] > 0
    assert not any("activations" in remark for remark in found.remarks)


SMALL = LlamaConfig(
    vocab_size=512, hidden_size=64, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=4
)


def foreseen_finetune(tmp_path, *, init_from="", sources=None):
    stage = Finetune(num_steps=100, warmup_steps=1, seq_len=64, global_batch_tokens=1024, init_from=init_from)
    measured = open_folder(str(tmp_path / "measured"))
    return stage.foresee({}, Resources(num_workers=1), measured=measured, sources=sources or {})


def test_a_finetune_is_foreseen_by_the_model_that_it_begins_from(tmp_path):
    model = tmp_path / "built"
    model.mkdir()
    (model / "model.json").write_text(json.dumps(SMALL.to_dict()))
    pretrained = Pretrain(model=SMALL, seq_len=64, global_batch_tokens=1024, num_steps=100, warmup_steps=1)
    told = foreseen_finetune(tmp_path, sources={"model": [Source(pretrained, None)]})
    assert told.figures["GiB activations"] > 0
    assert told.figures["flops"] > 0
    (source,) = [Source(Finetune(), open_folder(str(model)))]
    assert foreseen_finetune(tmp_path, sources={"model": [source]}) == told
    assert foreseen_finetune(tmp_path, init_from=str(model)) == told
    measured = open_folder(str(tmp_path / "measured"))
    alone = pretrained.foresee({}, Resources(num_workers=1), measured=measured, sources={})
    assert alone.figures == told.figures


def test_a_finetune_of_a_hugging_face_folder_is_foreseen_by_its_config(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    values = {"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128}
    more = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    (folder / "config.json").write_text(json.dumps(values | more))
    sources = {"model": [Source(Pretrain(model=SMALL), None)]}
    told = foreseen_finetune(tmp_path, init_from=str(folder))
    assert told.figures["parameters"] == foreseen_finetune(tmp_path, sources=sources).figures["parameters"]


@pytest.mark.parametrize("content", [None, '{"model_type": "mamba"}'])
def test_a_finetune_of_an_unknown_model_is_foreseen_in_its_length_alone(tmp_path, content):
    if content:
        (tmp_path / "config.json").write_text(content)
    found = foreseen_finetune(tmp_path, init_from=str(tmp_path) if content else "someone/elsewhere")
    assert found.figures == {"steps": 100, "tokens": 102_400}
