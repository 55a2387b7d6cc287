"""Composition: from a recipe and overrides to dataclasses."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from data.filters import FilterRules
from model.config import CONFIGS
from pipeline.config.files import OWN, with_own_recipes
from pipeline.config.refusals import (
    composition_error,
    first_line,
    missing_config,
    no_such_key,
    value_error,
)
from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError, close_match
from pipeline.recipe import PipelineConfig, check_not_empty, check_resources
from pipeline.schema import mapping_fields, unknown_in_schema
from pipeline.stages import STAGES


@dataclass(frozen=True)
class Composed:
    """A recipe with its overrides, resolved."""

    config: PipelineConfig
    recipe: str
    yaml: str
    "The resolved recipe as YAML."
    overrides: tuple[str, ...]


def compose_recipe(overrides: Sequence[str] = ()) -> Composed:
    """Compose a recipe, with Hydra's override grammar.

    Args:
        overrides: `recipe=NAME` chooses the recipe, by name or by the path of a YAML file; the others change fields.

    Raises:
        ConfigError: an unknown recipe, key or node, a value of the wrong type, or an override that cannot be read.
    """
    parsed = parse_overrides(overrides)
    open_keys = [each for each in parsed if _is_open(each.key_or_group)]
    rest = [str(each.input_line) for each in parsed if each not in open_keys]
    _store_schemas()
    with initialize_config_module("conf", version_base=None):
        composed = _compose(with_own_recipes(rest))
        recipe = str(composed.hydra.runtime.choices.recipe).removesuffix(OWN)
        OmegaConf.set_struct(composed, value=False)
        del composed["hydra"]
        OmegaConf.set_struct(composed, value=True)
    for each in open_keys:
        _set_open_key(composed, each)
    _refuse_unknown_keys(composed)
    config: Any = _translated(OmegaConf.to_object, composed)
    assert isinstance(config, PipelineConfig)
    check_not_empty(config, recipe)
    check_resources(config)
    return Composed(config, recipe, OmegaConf.to_yaml(composed), tuple(overrides))


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Overrides by Hydra's grammar; ConfigError for one that cannot be read."""
    try:
        found: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise ConfigError(
            f'the override "{error.override}" cannot be read',
            where="the command line",
            allowed="KEY=VALUE with a dotted key, such as stages.base.learning_rate=3e-4 (Hydra's override grammar)",
            do="correct it; quote values with spaces, commas or brackets: 'key=\"a, b\"'",
        ) from error
    return found


@cache  # of the process, as is Hydra's store
def _store_schemas() -> None:
    store = ConfigStore.instance()
    store.store(name="schema", node=PipelineConfig)
    for stage in STAGES:
        store.store(group="stage", name=stage.name, node=stage)
    for name, schema in CONFIGS.items():
        store.store(group="model", name=f"{name}_schema", node=schema)
    store.store(group="rules", name="filter_schema", node=FilterRules)


def _compose(overrides: list[str]) -> DictConfig:
    try:
        composed: DictConfig = compose("pipeline", overrides=overrides, return_hydra_config=True)
    except MissingConfigException as error:
        raise missing_config(error) from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"a YAML file cannot be read: {first_line(str(getattr(error, 'problem', None) or error))}",
            where=str(getattr(error, "problem_mark", None) or "").strip() or "the recipe",
            allowed="YAML",
            do="correct the file",
        ) from error
    except ConfigCompositionException as error:
        raise composition_error(error, overrides) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise value_error(error) from error
    return composed


def _translated(function: Any, config: DictConfig) -> Any:
    try:
        return function(config)
    except OmegaConfBaseException as error:
        raise value_error(error) from error


def _is_open(key: str) -> bool:
    """Whether names at or below this key are the user's, which Hydra would refuse as new: nodes, sources, overrides."""
    section, *steps = key.split(".")
    if section == "stages":
        return not mapping_fields().isdisjoint(steps[1:][-2:])
    return key == "tune.search" or (section == "resources" and len(steps) == 2)  # noqa: PLR2004 - NODE.FIELD


def _set_open_key(composed: DictConfig, override: Override) -> None:
    key = override.key_or_group
    try:
        if key.startswith("resources."):
            _set_node_resource(composed, override)
        else:
            _, node, *_ = key.split(".")
            if key.startswith("stages.") and node not in composed.stages:
                raise no_such_key("stages", node, composed.stages, key)
            with open_dict(composed):
                OmegaConf.update(composed, key, override.value(), merge=False)
    except OmegaConfBaseException as error:
        raise value_error(error) from error


def _set_node_resource(composed: DictConfig, override: Override) -> None:
    _, node, name = override.key_or_group.split(".")
    known = [each.name for each in dataclasses.fields(Resources)]
    if name not in known:
        raise unknown_in_schema(override.key_or_group, name, "Resources")
    if node not in composed.resources:
        with open_dict(composed.resources):
            composed.resources[node] = OmegaConf.structured(Resources)
    composed.resources[node][name] = override.value()


def _refuse_unknown_keys(composed: DictConfig) -> None:
    """A forced `+key` that no dataclass has would vanish silently in the conversion."""
    for path, name, fields in _beyond_schema(composed, ""):
        raise ConfigError(
            f'there is no key "{name}" in {path or "the recipe"}',
            where=f"{path}.{name}".lstrip("."),
            allowed=", ".join(fields),
            do=f"{close_match(name, fields)}correct the name, and leave the + away",
        )


def _beyond_schema(node: DictConfig, path: str) -> Iterator[tuple[str, str, list[str]]]:
    kind = OmegaConf.get_type(node)
    fields = [each.name for each in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None
    for key in node:
        name = str(key)
        if fields is not None and name not in fields:
            yield path, name, fields
        elif not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
            yield from _beyond_schema(node[key], f"{path}.{name}".lstrip("."))
