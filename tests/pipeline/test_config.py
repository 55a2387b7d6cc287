"""A recipe that is wrong is refused in four parts, with a dotted key, before anything starts."""

from pathlib import Path
from typing import Any

import pytest

import conf
from pipeline.cli import main
from pipeline.config import compose_recipe
from pipeline.dag.graph import Graph
from pipeline.errors import ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys):
    """The parts of the error that a plan with these overrides ends in, after a look at the exit code."""

    def plan(*overrides):
        with pytest.raises(ConfigError) as caught:
            Graph(compose_recipe(list(overrides)).config.stages)
        error = caught.value
        assert all((error.what, error.where, error.allowed, error.do)), error.parts()
        assert main(["plan", *overrides]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        return error

    return plan


@pytest.mark.parametrize(
    ("override", "what", "where", "do"),
    [
        ("recipe=quickstrat", 'no recipe "quickstrat"', "recipe=quickstrat", '"quickstart"'),
        ("recipe=./nowhere.yaml", "cannot be read", "recipe=./nowhere.yaml", "correct the path"),
        ("stores=x", 'no key "stores"', "stores", '"store"'),
        ("stages.baes.seed=1", 'no node "baes"', "stages.baes.seed", '"base"'),
        ("stages.base.learning_rat=1", 'no key "learning_rat"', "learning_rat", '"learning_rate"'),
        ("stages.base.model.hidden=1", 'no key "hidden"', "stages.base.model.hidden", '"hidden_size"'),
        (
            "stages.clean.rules.min_wrods=1",
            'no key "min_wrods"',
            "stages.clean.rules.min_wrods",
            '"min_words"',
        ),
        ("stages.base.seed.deep=1", "", "stages.base.seed", "type"),
        ("stages.base.num_steps=many", "many", "stages.base.num_steps", "type"),
        ("stages.base.num_steps=1.5", "1.5", "stages.base.num_steps", "type"),
        ("stages.base.learning_rate=fast", "fast", "stages.base.learning_rate", "type"),
        ("stages.base.precision=fp8", "fp8", "stages.base.precision", "type"),
        ("stages.base.mask_documents=perhaps", "perhaps", "stages.base.mask_documents", "type"),
        ("stages.corpus.paths=one", "", "stages.corpus.paths", "type"),
        ("+stages.base.extra=1", 'no key "extra"', "stages.base.extra", "+"),
        ("+extra=1", 'no key "extra"', "extra", "+"),
        ("resources.base.zero_stag=1", 'no key "zero_stag"', "resources.base.zero_stag", '"zero_stage"'),
        ("resources.base.zero_stage=two", "two", "resources.base.zero_stage", "type"),
        ("resources.baes.zero_stage=1", 'no node "baes"', "resources.baes", '"base"'),
        ("resources.default.num_wokers=1", 'no key "num_wokers"', "resources.default", "num_workers"),
        ("cluster.adress=auto", 'no key "adress"', "cluster.adress", '"address"'),
        ("tracking.url=x", 'no key "url"', "tracking.url", '"uri"'),
        ("stages.base.seed", "cannot be read", "the command line", "quote"),
        ("stages.base.seed=[1", "cannot be read", "the command line", "quote"),
    ],
)
def test_an_override_that_cannot_be_is_explained(refused, override, what, where, do):
    error = refused(override)
    assert what in error.what, error
    assert where in error.where, error
    assert do in error.do, error


@pytest.mark.parametrize(
    ("override", "what", "where"),
    [
        ("stages.base.model.hidden_size=100", "cannot be divided", "stages.base.model.hidden_size"),
        ("stages.base.model.num_kv_heads=4", "cannot share", "stages.base.model.num_kv_heads"),
        ("stages.base.global_batch_tokens=1000", "not a whole number", "stages.base.global_batch_tokens"),
        ("stages.base.seq_len=100000", "", "stages.base."),
        (
            "stages.base.seq_len=512 stages.base.global_batch_tokens=8192",
            "sequences of 512 tokens do not fit a model of 256",
            "stages.base.seq_len",
        ),
        ("stages.base.warmup_steps=100000", "longer than", "stages.base.warmup_steps"),
        ("stages.base.num_steps=0", "num_steps is 0", "stages.base.num_steps"),
        ("stages.base.learning_rate=0", "learning_rate is 0", "stages.base.learning_rate"),
        ("stages.base.learning_rate=1e6", "learning_rate is 1000000", "stages.base.learning_rate"),
        ("resources.base.micro_batch_size=5", "micro batches of 5", "resources.base.micro_batch_size"),
        ("resources.base.num_workers=5", "among 5 ranks", "resources.base.num_workers"),
        ("resources.default.num_workers=5", "among 5 ranks", "num_workers"),
        (
            "resources.base.num_workers=2 resources.base.min_workers=4",
            "min_workers is 4, and there are 2 ranks at most",
            "resources.base.min_workers",
        ),
        ("stages.corpus.paths=[]", "no file is named", "stages.corpus.paths"),
        ("stages.corpus.shard_bytes=0", "0", "stages.corpus.shard_bytes"),
        ("stages.corpus.max_unreadable_fraction=2", "2", "stages.corpus.max_unreadable_fraction"),
        ("stages.clean.rules.min_words=-1", "", "stages.clean.rules.min_words"),
        ("stages.split.rules.test_fraction=0.99", "", "stages.split.rules."),
        ("stages.tokenizer.rules.vocab_size=10", "", "stages.tokenizer.rules.vocab_size"),
        ("stages.pair_tokens.max_example_tokens=1", "", "stages.pair_tokens.max_example_tokens"),
        ("stages.base_score.top_p=0", "top_p is 0", "stages.base_score.top_p"),
        ("stages.register.model_name=a/b", "cannot name a model", "stages.register.model_name"),
        ("stages.tokens.inputs.documents=''", "is empty", "stages.tokens.inputs.documents"),
        ("stages.tokens.inputs.documents=slpit", 'no node "slpit"', "stages.tokens.inputs.documents"),
        ("stages.tokens.inputs.documents=base", "gives checkpoint", "stages.tokens.inputs.documents"),
        ("stages.clean.inputs.documents=split", "circle", ".inputs"),
        ("stages.clean.inputs.documents=clean", "circle", "stages.clean.inputs"),
    ],
)
def test_a_value_that_cannot_work_is_explained(refused, override, what, where):
    error = refused(*override.split())
    assert what in error.what, error
    assert where in error.where, error


def test_published_rules_are_chosen_by_name_and_each_threshold_can_be_changed():
    config: Any = compose_recipe(
        ["+rules@stages.clean.rules=fineweb", "stages.clean.rules.min_words=20"]
    ).config.stages["clean"]
    assert (config.rules.min_words, config.rules.max_words) == (20, 100_000)
    assert config.rules.fineweb.max_short_line_fraction == 0.67
    assert config.rules.min_characters is None, "the recipe's own thresholds give way"
    recipe: Any = compose_recipe(["recipe=gpt2_124m", "rules@stages.clean.rules=c4"]).config.stages["clean"]
    assert recipe.rules.lines.terminal_punctuation
    assert recipe.rules.min_words is None


def test_rules_that_cannot_be_chosen_are_explained(refused):
    error = refused("rules@stages.clean.rules=fineweb")
    assert "+rules@stages.clean.rules=" in error.do
    error = refused("+rules@stages.clean.rules=finweb")
    assert "fineweb" in error.allowed
    assert '"fineweb"' in error.do


OWN = (
    "# @package _global_\ndefaults:\n  - /stage/ingest@stages.own\n  - _self_\nstages:\n  own: {paths: [x]}\n"
)


def test_a_recipe_is_found_by_path_and_in_the_current_folder(tmp_path):
    (tmp_path / "conf/recipe").mkdir(parents=True)
    (tmp_path / "conf/recipe/mine.yaml").write_text(OWN)
    (tmp_path / "elsewhere.yaml").write_text(
        OWN.replace("stages.own", "stages.other").replace("own:", "other:")
    )
    assert list(compose_recipe(["recipe=mine"]).config.stages) == ["own"]
    assert compose_recipe(["recipe=mine"]).recipe == "mine"
    assert compose_recipe(["recipe=mine"]).yaml == compose_recipe(["recipe=conf/recipe/mine.yaml"]).yaml
    by_path = compose_recipe([f"recipe={tmp_path}/elsewhere.yaml"])
    assert list(by_path.config.stages) == ["other"]
    assert by_path.recipe == "elsewhere"
    assert "quickstart" in compose_recipe().recipe


def test_a_recipe_of_ones_own_may_begin_from_another(tmp_path):
    (tmp_path / "conf/recipe").mkdir(parents=True)
    (tmp_path / "conf/recipe/mine.yaml").write_text(OWN)
    more = OWN.replace("own: {paths: [x]}", "more: {inputs: {documents: own}}")
    more = more.replace("/stage/ingest@stages.own", "mine\n  - /stage/clean@stages.more")
    (tmp_path / "conf/recipe/more.yaml").write_text(more)
    composed = compose_recipe(["recipe=more"])
    assert (list(composed.config.stages), composed.recipe) == (["own", "more"], "more")


def test_a_recipe_of_ones_own_is_not_taken_for_a_file_of_its_name(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine.yaml").write_text(OWN)
    assert compose_recipe(["recipe=elsewhere/mine.yaml"]).recipe == "mine"
    test_a_recipe_of_ones_own_may_begin_from_another(tmp_path)


def test_two_recipe_files_of_one_name_are_not_mixed_up(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.yaml").write_text(OWN.replace("[x]", f"[{name}]"))
    found = [
        compose_recipe([f"recipe={name}/same.yaml"]).config.stages["own"].paths for name in ("one", "two")
    ]
    assert found == [["one"], ["two"]]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (OWN + "store: a\nstore: b\n", "duplicate"),
        (OWN.replace("{paths: [x]}", "{paths: [x], pahts: [y]}"), "pahts"),
        (OWN.replace("{paths: [x]}", "{paths: [x], shard_bytes: small}"), "small"),
        (OWN.replace("/stage/ingest", "/stage/ingst"), 'did you mean "ingest"'),
        (OWN.replace("{paths: [x]}", "{paths: [x"), ""),
        ("just words\n", ""),
        ("# @package _global_\nstages:\n  lost: {paths: [x]}\n", 'the node "lost" has no stage'),
        (OWN.replace("{paths: [x]}", "{paths: [x], rules: {text_feild: a}}"), 'did you mean "text_field"'),
        ("", ""),
    ],
    ids=["twice", "key", "type", "stage", "yaml", "words", "no stage", "nested key", "empty"],
)
@pytest.mark.parametrize("place", ["path", "conf"])
def test_a_recipe_file_that_is_wrong_is_explained(refused, tmp_path, text, what, place):
    (tmp_path / "conf/recipe").mkdir(parents=True)
    (tmp_path / "conf/recipe/wrong.yaml").write_text(text)
    error = refused("recipe=wrong" if place == "conf" else "recipe=conf/recipe/wrong.yaml")
    assert what in str(error), error


def test_the_resolved_recipe_is_a_recipe_again(tmp_path):
    """What `headrace show recipe` prints holds every value, and no trace of Hydra."""
    import yaml

    composed = compose_recipe(["stages.base.seed=7"])
    content = yaml.safe_load(composed.yaml)
    assert content["stages"]["base"]["seed"] == 7
    assert "hydra" not in content


def test_a_recipe_composes_alike_by_name_and_as_a_file(tmp_path, monkeypatch):
    """A file's nodes are gathered into one default before Hydra merges them."""
    shipped = Path(conf.__file__).parent / "recipe" / "quickstart.yaml"
    (tmp_path / "copy.yaml").write_text(shipped.read_text())
    monkeypatch.chdir(tmp_path)
    overrides = ["stages.base.num_steps=121", "model@stages.base.model=gpt2_tiny"]
    assert compose_recipe(["recipe=copy.yaml", *overrides]).yaml == compose_recipe(overrides).yaml


@pytest.mark.parametrize("text", ["", "\n", "store: elsewhere\n"])
def test_a_recipe_without_a_node_is_refused(refused, tmp_path, text):
    (tmp_path / "empty.yaml").write_text(text)
    assert refused("recipe=empty.yaml").what == "the recipe declares no node"


def test_names_of_sources_are_set_from_the_command_line():
    several = "stages.base.inputs.tokens=[tokens/train,tokens/test]"
    one_by_one = compose_recipe(
        [several, "stages.base.mixture.weights.tokens=2", "stages.base.mixture.max_epochs.x=1"]
    )
    mixture = one_by_one.config.stages["base"].mixture
    assert (mixture.weights, mixture.max_epochs) == ({"tokens": 2.0}, {"x": 1.0})
    together = compose_recipe(["stages.base.mixture.weights={a:2,b:1}"]).config.stages["base"]
    assert together.mixture.weights == {"a": 2.0, "b": 1.0}
    assert together.sources == ["tokens"]
    sampled = compose_recipe(
        ["stages.tokenizer.sample.by=source", "stages.tokenizer.sample.weights.json=0.5"]
    )
    assert sampled.config.stages["tokenizer"].sample.weights == {"json": 0.5}
    assert one_by_one.config.stages["base"].sources == ["tokens/train", "tokens/test"]


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("stages.bse.mixture.weights.a=1", 'there is no node "bse"'),
        ("stages.corpus.mixture.weights.a=1", 'there is no key "mixture"'),
        ("stages.base.mixture.weights.a=x", "could not be converted to Float"),
    ],
)
def test_a_weight_that_has_no_place_is_explained(refused, override, what):
    assert what in refused(override).what


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["stages.base.mixture.weights={a:1}"], "weights are given for a"),
        (["stages.base.inputs.tokens=[tokens/train,tokens/train]"], "names one twice"),
        (["stages.base.inputs.tokens=5"], "5 is no name of a node"),
        (["stages.base.inputs.tokens=[tokens/train,4]"], "4 is no name of a node"),
        (["stages.base.inputs.tokens=[]"], "needs this input, and it is empty"),
    ],
)
def test_sources_that_cannot_be_are_explained_before_anything_runs(refused, overrides, what):
    assert what in refused(*overrides).what
