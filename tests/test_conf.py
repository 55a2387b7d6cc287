"""Every shipped YAML composes, is sound, and says nothing twice; every field of every schema is documented."""

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from model.config import CONFIGS
from pipeline.config import compose_recipe
from pipeline.recipe import PipelineConfig
from pipeline.schema import recipe_names
from pipeline.stages import STAGES

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
GROUPED = sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name != "recipe")
RECIPES = sorted(path.stem for path in (CONF / "recipe").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """In an empty folder, so that only the shipped YAML is found."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_composes_without_a_problem(name):
    composed = compose_recipe([f"recipe={name}"])
    assert composed.recipe == name
    assert composed.config.stages
    problems = {node: stage.problems() for node, stage in composed.config.stages.items()}
    assert not any(problems.values()), problems


def test_every_shipped_recipe_is_offered():
    assert set(RECIPES) <= set(recipe_names())
    assert {"quickstart", "gpt2_124m", "llama_1b"} <= set(RECIPES)


@pytest.fixture(scope="module")
def _schemas():
    compose_recipe()  # puts them into Hydra's store


@pytest.mark.usefixtures("_schemas")
@pytest.mark.parametrize("path", GROUPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_group_member_composes_without_a_problem(path):
    with initialize_config_module("conf", version_base=None):
        composed = compose(f"{path.parent.name}/{path.stem}")
    config: Any = OmegaConf.to_object(composed[path.parent.name])
    assert dataclasses.is_dataclass(config), "its defaults list names no schema"
    assert not getattr(config, "problems", list)()


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "model").glob("*_tiny.yaml")))
def test_a_recipe_takes_any_model(name):
    config = compose_recipe([f"model@stages.base.model={name}"]).config.stages["base"].model
    assert config.architecture in CONFIGS
    assert type(config) is CONFIGS[config.architecture]


def schemas() -> list[type]:
    """Every dataclass that a recipe's values end in."""
    found: dict[type, None] = {}
    waiting: list[Any] = [PipelineConfig, *STAGES, *CONFIGS.values()]
    while waiting:
        kind = waiting.pop()
        if dataclasses.is_dataclass(kind) and kind not in found:
            found[kind] = None
            waiting += kind.__mro__[1:]
            hints = typing.get_type_hints(kind)
            waiting += [part for each in dataclasses.fields(kind) for part in _parts(hints[each.name])]
    return sorted(found, key=lambda kind: kind.__qualname__)


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in typing.get_args(hint):
        yield from _parts(part)


def documented(kind: type) -> set[str]:
    """The fields with a string literal on the line below."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        each.target.id
        for each, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


@pytest.mark.parametrize("kind", schemas(), ids=lambda kind: kind.__qualname__)
def test_every_field_of_a_schema_says_what_unit_and_range(kind):
    own = inspect.get_annotations(kind)
    fields = {
        each.name for each in dataclasses.fields(kind) if each.name in own and "kinds" not in each.metadata
    }
    ports = {"inputs"} if kind in STAGES else set()  # their kinds are what there is to say
    assert fields - ports - documented(kind) == set()
