"""Search: what is proposed, what trials share, what is refused, and the recipe that comes out. No Ray here."""

from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config import compose_recipe
from pipeline.errors import ConfigError
from pipeline.tune.space import parse_range, propose
from pipeline.tune.trials import Trial, TrialStatus, best_of
from pipeline.verbs.best import best_recipe, write_recipe
from pipeline.verbs.session import Session, open_session
from pipeline.verbs.trials import as_override, prepare

RECIPE = """\
# @package _global_
defaults:
  - /stage/ingest@stages.corpus
  - /stage/split@stages.split
  - /stage/tokenizer@stages.tokenizer
  - /stage/tokenize@stages.tokens
  - /stage/pretrain@stages.base
  - /model/llama_tiny@stages.base.model
  - /stage/evaluate@stages.score
  - _self_
stages:
  corpus: {paths: [texts]}
  split: {inputs: {documents: corpus}}
  tokenizer: {inputs: {documents: split/train}, rules: {vocab_size: 300}}
  tokens: {inputs: {documents: split, tokenizer: tokenizer}}
  base:
    inputs: {tokens: tokens/train, validation: tokens/validation, tokenizer: tokenizer}
    num_steps: 100
    eval_every_steps: 10
  score: {inputs: {model: base, tokens: tokens/test}}
tune:
  search: {stages.base.learning_rate: "loguniform(1e-4, 1e-2)"}
  num_trials: 3
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    """A folder with a recipe called small, and texts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("a river turns a wheel\n")
    (tmp_path / "conf/recipe").mkdir(parents=True)
    path = tmp_path / "conf/recipe/small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def session(recipe):
    def opened(*overrides: str) -> tuple[Session, list[str]]:
        from argparse import Namespace

        given = ["recipe=small", *overrides]
        return open_session(Namespace(overrides=given)), given

    return opened


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("uniform(0.1, 0.3)", lambda value: 0.1 <= value <= 0.3),
        ("loguniform(1e-4, 1e-2)", lambda value: 1e-4 <= value <= 1e-2),
        ("randint(2, 5)", lambda value: value in {2, 3, 4}),
        ("randint(64, 257, 64)", lambda value: value in {64, 128, 192, 256}),
        ("uniform(0, 1, 0.25)", lambda value: value in {0, 0.25, 0.5, 0.75, 1}),
        ("choice(cosine, linear)", lambda value: value in {"cosine", "linear"}),
        ("choice(1e-3, true, null, [a, b])", lambda value: value in (0.001, True, None, ["a", "b"])),
    ],
)
def test_draws_lie_in_their_range(text, holds):
    search = {"stages.base.x": parse_range("stages.base.x", text)}
    drawn = [propose(search, seed=0, trial=number)["stages.base.x"] for number in range(50)]
    assert all(map(holds, drawn))
    assert len({str(each) for each in drawn}) > 1


def test_a_log_uniform_range_is_searched_evenly_by_magnitude():
    search = {"x": parse_range("x", "loguniform(1e-4, 1)")}
    drawn = [propose(search, seed=1, trial=number)["x"] for number in range(400)]
    for low in (1e-4, 1e-3, 1e-2, 1e-1):
        assert 70 <= sum(low <= value < low * 10 for value in drawn) <= 130


def test_proposals_depend_on_seed_and_number_alone():
    one = {"a": parse_range("a", "uniform(0, 1)")}
    two = one | {"b": parse_range("b", "uniform(0, 1)")}
    assert propose(one, seed=3, trial=7) == propose(one, seed=3, trial=7)
    assert propose(two, seed=3, trial=7)["a"] == propose(one, seed=3, trial=7)["a"]
    assert propose(one, seed=4, trial=7) != propose(one, seed=3, trial=7)
    assert propose(two, seed=3, trial=7)["a"] != propose(two, seed=3, trial=7)["b"]


@pytest.mark.parametrize(
    "text",
    [
        "uniforn(0, 1)",
        "0.1",
        "uniform(1)",
        "uniform(2, 1)",
        "loguniform(0, 1)",
        "randint(0.5, 2)",
        "choice()",
        "uniform(a, b)",
        "uniform(0, 1, 0)",
        "uniform([, 1)",
    ],
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ConfigError) as refused:
        parse_range("stages.base.learning_rate", text)
    assert "stages.base.learning_rate" in refused.value.where
    assert text in refused.value.what


def test_trials_share_all_that_the_search_does_not_touch(session):
    prepared = prepare(*session())
    assert prepared.node == "base"
    assert prepared.sharing.shared == ["corpus", "split", "tokenizer", "tokens"]
    assert prepared.sharing.own == ["base"]
    assert len({trial.overrides["stages.base.learning_rate"] for trial in prepared.trials}) == 3


def test_a_search_above_rebuilds_what_lies_below(session):
    prepared = prepare(
        *session('tune.search={stages.tokenizer.rules.vocab_size: "randint(260, 400)"}', "tune.node=score")
    )
    assert prepared.sharing.shared == ["corpus", "split"]
    assert set(prepared.sharing.own) == {"tokenizer", "tokens", "base", "score"}


def test_repeated_proposals_are_tried_once(session):
    search = 'tune.search={stages.base.schedule: "choice(cosine, linear)"}'
    prepared = prepare(*session(search, "tune.num_trials=8"))
    assert len(prepared.trials) == 2
    assert any("6 of 8" in note for note in prepared.notes)


def test_asha_is_told_to_wait_where_nothing_is_reported_before_the_end(session):
    assert prepare(*session()).notes == []
    (note,) = prepare(*session("stages.base.eval_every_steps=0")).notes
    assert "eval_every_steps" in note
    assert prepare(*session("stages.base.eval_every_steps=0", "tune.metric=train/loss")).notes == []
    (note,) = prepare(*session("tune.grace_steps=100")).notes
    assert "tune.grace_steps=100" in note


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (['tune.search={stages.base.lerning_rate: "uniform(0, 1)"}'], 'did you mean "learning_rate"'),
        (['tune.search={stages.bas.learning_rate: "uniform(0, 1)"}'], 'did you mean "base"'),
        (['tune.search={store: "choice(a, b)"}'], "stages.NODE.FIELD"),
        (['tune.search={stages.base.learning_rate: "logunifrom(1, 2)"}'], 'did you mean "loguniform"'),
        (['tune.search={stages.base.model.num_heads: "choice(6, 7)"}'], "num_heads"),
        (["tune.metric=eval/los"], 'did you mean "eval/loss"'),
        (["tune.node=scor"], 'did you mean "score"'),
        (["tune.node=tokens"], 'does not report "eval/loss"'),
        (["tune.num_trials=0"], "num_trials is 0"),
        (["tune.search={}"], "nothing is searched"),
        (['tune.search={stages.score.seed: "randint(0, 9)"}', "tune.node=base"], "nothing that is searched"),
        (["~stages.score"], "cannot be written into a recipe"),
        (["base"], "tune.node=base"),
    ],
)
def test_mistakes_end_before_anything_starts(recipe, capsys, overrides, words):
    assert main(["tune", "recipe=small", *overrides]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    for part in ("where:", "allowed:", "do:"):
        assert part in said
    assert not list(recipe.parent.parent.parent.glob(".headrace/[alw]*")), "artifacts, locks, logs or work"


@pytest.mark.parametrize("base", ["recipe=small", "recipe=conf/recipe/small.yaml", "recipe=best"])
def test_the_best_recipe_composes_to_what_the_trial_was(recipe, base):
    overrides = [base, "stages.base.num_steps=50", "store=elsewhere", "resources.base.num_workers=2"]
    values = {"stages.base.learning_rate": 1e-05, "stages.base.schedule": "linear"}
    path = Path("conf/recipe/best.yaml")
    path.write_text(RECIPE)
    wanted = compose_recipe([*overrides, *(as_override(key, value) for key, value in values.items())]).config
    write_recipe(path, best_recipe(path, overrides, values, words="first\nsecond"))
    found = compose_recipe(["recipe=best"]).config
    assert (found.stages, found.store, found.resources) == (wanted.stages, wanted.store, wanted.resources)


@pytest.mark.parametrize("value", ["a b", "it's", "back\\slash", "1e-3", "", "x=y, {z}"])
def test_text_survives_the_override_grammar(value, recipe):
    composed = compose_recipe(["recipe=small", as_override("tracking.experiment", value)])
    assert composed.config.tracking.experiment == value


def test_only_complete_trials_can_be_the_best():
    def trial(number, status, value):
        return Trial(number, {}, None, {}, status, [(1, value)])

    trials = [
        trial(1, TrialStatus.finished, 3.0),
        trial(2, TrialStatus.stopped, 1.0),
        trial(3, TrialStatus.reused, 2.0),
        trial(4, TrialStatus.failed, 0.0),
    ]
    assert best_of(trials, lower_is_better=True).number == 3
    assert best_of(trials, lower_is_better=False).number == 1
    assert best_of(trials[1:2], lower_is_better=True) is None
