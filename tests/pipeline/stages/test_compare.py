"""Two tiny models side by side: what is ranked, what is kept apart, and how it is looked at."""

import pytest

from model.config import GPT2Config, LlamaConfig
from model.flops import flops_per_token, num_parameters
from pipeline.cli import main
from pipeline.errors import ConfigError
from pipeline.stages.compare import _ranked

DEFAULTS = """
  - /stage/pretrain@stages.other
  - /model@stages.other.model: gpt2_tiny
  - /stage/evaluate@stages.other_score
  - /stage/evaluate@stages.on_pairs
  - /stage/compare@stages.comparison
  - _self_
"""
NODES = """
  other: {inputs: {tokens: tokens/train, tokenizer: tokenizer}, model: MODEL, seq_len: 16, global_batch_tokens: 64,
    num_steps: 2, warmup_steps: 0}
  other_score: {inputs: {model: other, tokens: tokens/test}, num_samples: 0}
  on_pairs: {inputs: {model: other, tokens: pair_tokens}, num_samples: 0}
  comparison: {inputs: {reports: [score, other_score, on_pairs], models: [base, other]}}
"""
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_layers": 1, "num_heads": 2, "max_seq_len": 64}


@pytest.fixture(scope="module")
def compared(make_tiny):
    tiny = make_tiny()
    recipe = tiny.recipe.read_text().replace("\n  - _self_\n", DEFAULTS)
    shape = ", ".join(f"{name}: {value}" for name, value in SHAPE.items())
    tiny.recipe.write_text(recipe.rstrip("\n") + NODES.replace("MODEL", f"{{{shape}}}"))
    return tiny, tiny.build(["comparison"])


@pytest.fixture(scope="module")
def tables(compared):
    return compared[1]["comparison"].folder.read_json("comparison.json")["tables"]


def test_models_are_ranked_by_what_was_measured_on_the_same_tokens(compared, tables):
    _, built = compared
    text, pairs = tables
    assert [text["tokens"], pairs["tokens"]] == ["tokens/test", "pair_tokens"]
    assert [each["measure"] for each in tables] == ["eval/bits_per_byte"] * 2
    values = [row["value"] for row in text["models"]]
    assert values == sorted(values)
    for row in text["models"] + pairs["models"]:
        assert row["metrics"] == built[row["report"]].manifest.metrics
        assert row["value"] == row["metrics"]["eval/bits_per_byte"]
    assert {row["model"] for row in text["models"]} == {"base", "other"}
    assert [row["model"] for row in pairs["models"]] == ["other"]


def test_what_a_model_costs_is_counted(compared, tables):
    config = GPT2Config(**SHAPE, vocab_size=320)
    (row,) = tables[1]["models"]
    assert row["architecture"] == "gpt2"
    assert row["parameters"] == num_parameters(config)
    assert row["flops_per_token"] == flops_per_token(config, 64)
    assert row["tokens_learned"] == compared[1]["other"].manifest.counters["tokens"]
    assert LlamaConfig().architecture in {each["architecture"] for each in tables[0]["models"]}


def test_it_is_the_same_on_the_page_the_terminal_and_in_markdown(compared, tables, capsys, tmp_path):
    tiny, built = compared
    folder = built["comparison"].folder
    assert main(["inspect", "comparison", *tiny.overrides]) == 0
    said = capsys.readouterr().out
    assert main(["inspect", "comparison", "--html", str(tmp_path / "page.html"), *tiny.overrides]) == 0
    page = (tmp_path / "page.html").read_text()
    assert page == folder.read_bytes("logs/comparison.html").decode()
    markdown = folder.read_bytes("comparison.md").decode()
    assert markdown.count("\n| ---") == len(tables)
    for shown in (said, page, markdown):
        assert "bits per byte on tokens/test" in shown
        for row in tables[0]["models"]:
            assert row["model"] in shown
            assert f"{row['value']:.4f}" in shown


def test_a_report_of_another_model_is_refused(compared):
    tiny, _ = compared
    with pytest.raises(ConfigError, match='"on_pairs" judges "other"') as refused:
        tiny.build(["comparison"], ["stages.comparison.inputs.models=[base]",
                                    "stages.comparison.inputs.reports=[score,on_pairs]"])  # fmt: skip
    assert refused.value.where == "stages.comparison.inputs.models"
    assert refused.value.do == "add other"


def test_the_largest_accuracy_is_the_best():
    rows = [{"report": name, "value": value} for name, value in (("a", 0.2), ("b", 0.5), ("c", 0.5))]
    assert [row["report"] for row in _ranked(rows, "eval/accuracy")] == ["b", "c", "a"]
    assert [row["report"] for row in _ranked(rows, "eval/loss")] == ["a", "b", "c"]
