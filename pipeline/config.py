"""Composition: from a recipe and overrides to dataclasses. The only module that knows Hydra."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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

from model.config import CONFIGS
from pipeline.dag.resources import Resources
from pipeline.errors import ConfigError, close_match
from pipeline.recipe import PipelineConfig, check_not_empty, check_resources
from pipeline.schema import members, recipe_names, unknown_in_schema
from pipeline.stages import STAGES

STAGE_DEFAULT = re.compile(r"/stage/(?P<stage>\w+)@stages\.(?P<node>\w+)")
"A node in a recipe's defaults list."


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
    open_keys = [each for each in parsed if _is_node_resource(each) or each.key_or_group == "tune.search"]
    rest = [str(each.input_line) for each in parsed if each not in open_keys]
    _store_schemas()
    with initialize_config_module("conf", version_base=None):
        composed = _compose(_with_own_recipes(rest))
        recipe = str(composed.hydra.runtime.choices.recipe)
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


def _store_schemas() -> None:
    store = ConfigStore.instance()
    store.store(name="schema", node=PipelineConfig)
    for stage in STAGES:
        store.store(group="stage", name=stage.name, node=stage)
    for name, schema in CONFIGS.items():
        store.store(group="model", name=f"{name}_schema", node=schema)


def _with_own_recipes(overrides: list[str]) -> list[str]:
    """Let `recipe=` find YAML files by path, and names in the current folder's `conf`."""
    found = [_stored_recipe(each) for each in overrides]
    if Path("conf/recipe").is_dir():
        found.append(f"hydra.searchpath=[file://{Path('conf').absolute()}]")
    return found


def _stored_recipe(override: str) -> str:
    """Put the file of `recipe=FILE.yaml` into Hydra's store, and name it; other overrides stay as they are."""
    if not (override.startswith("recipe=") and override.endswith((".yaml", ".yml"))):
        return override
    path = Path(override.partition("=")[2]).expanduser()
    if path.is_file() and path.absolute().parent == Path("conf/recipe").absolute():
        return f"recipe={path.stem}"
    try:
        content: Any = OmegaConf.load(path)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(
            f"the recipe cannot be read: {_first_line(error)}",
            where=override,
            allowed=f"a YAML file, or one of {', '.join(recipe_names())}",
            do="correct the path or the file",
        ) from error
    name = f"{path.stem}_file" if path.stem in recipe_names() else path.stem
    _gather_stages(content, name)
    ConfigStore.instance().store(group="recipe", name=name, node=content, package="_global_")
    return f"recipe={name}"


def _gather_stages(content: Any, name: str) -> None:
    """Put the nodes' schemas into one default: Hydra merges each default into the whole, quadratic in their number."""
    kinds = {stage.name: stage for stage in STAGES}
    defaults: Any = (content.get("defaults") if isinstance(content, DictConfig) else None) or []
    found = [STAGE_DEFAULT.fullmatch(each) if isinstance(each, str) else None for each in defaults]
    nodes = {match["node"]: kinds[match["stage"]] for match in found if match and match["stage"] in kinds}
    if not nodes:
        return
    ConfigStore.instance().store(group="recipe_nodes", name=name, node={"stages": nodes}, package="_global_")
    rest = [
        each for each, match in zip(defaults, found, strict=True) if not match or match["stage"] not in kinds
    ]
    content.defaults = [f"/recipe_nodes/{name}", *rest]


def _compose(overrides: list[str]) -> DictConfig:
    try:
        composed: DictConfig = compose("pipeline", overrides=overrides, return_hydra_config=True)
    except MissingConfigException as error:
        raise _missing_config(error) from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"a YAML file cannot be read: {_first_line(str(getattr(error, 'problem', None) or error))}",
            where=str(getattr(error, "problem_mark", None) or "").strip() or "the recipe",
            allowed="YAML",
            do="correct the file",
        ) from error
    except ConfigCompositionException as error:
        raise _composition_error(error, overrides) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise _value_error(error) from error
    return composed


def _translated(function: Any, config: DictConfig) -> Any:
    try:
        return function(config)
    except OmegaConfBaseException as error:
        raise _value_error(error) from error


def _missing_config(error: MissingConfigException) -> ConfigError:
    wanted = str(error.missing_cfg_file or "").rpartition("/")
    name = wanted[2].removesuffix(".yaml")
    options = members(wanted[0] or "recipe")
    return ConfigError(
        f'there is no {wanted[0] or "config"} "{name}"',
        where=f"{wanted[0]}={name}" if wanted[0] else "the recipe's defaults list",
        allowed=", ".join(options) or _first_line(error),
        do=f"{close_match(name, options)}choose one of these, or give the path of a YAML file",
    )


def _composition_error(error: ConfigCompositionException, overrides: list[str]) -> ConfigError:
    cause = error.__cause__ or error.__context__
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found and "No match in the defaults list" not in str(error):
        return _unknown_key(found.group(1), overrides)
    if isinstance(cause, OmegaConfBaseException):
        return _value_error(cause)
    return ConfigError(
        _first_line(error),
        where="the command line or the recipe",
        allowed="keys that the recipe has, in Hydra's override grammar",
        do="see `headrace show recipe` for the whole recipe",
    )


def _unknown_key(key: str, overrides: list[str]) -> ConfigError:
    """Compose without the field overrides, and say which keys there are where the wrong one was meant."""
    groups = [each for each in overrides if each.startswith(("recipe=", "hydra."))]
    whole = compose("pipeline", overrides=groups)
    parent, steps = whole, key.split(".")
    for index, step in enumerate(steps):
        if not isinstance(parent, DictConfig) or step not in parent:
            return _no_such_key(".".join(steps[:index]), step, parent, key)
        parent = parent[step]
    return ConfigError(f'"{key}" cannot be set', where=key, allowed="a field", do="name one of its fields")


def _no_such_key(path: str, name: str, parent: Any, where: str) -> ConfigError:
    names = [str(each) for each in parent] if isinstance(parent, DictConfig) else []
    kind = "node" if path == "stages" else "key"
    return ConfigError(
        f'there is no {kind} "{name}" in {path or "the recipe"}',
        where=where,
        allowed=", ".join(names) or f"nothing: {path} has no keys",
        do=f"{close_match(name, names)}correct the name",
    )


def _value_error(error: Exception) -> ConfigError:
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = str(getattr(cause, "full_key", "") or "the recipe")
    text = _first_line(cause)
    if unknown := re.match(r"Key '([^']+)' not in '([^']+)'", text):
        return unknown_in_schema(key, unknown.group(1), unknown.group(2))
    if "Missing mandatory value" in text:
        return ConfigError("a value is missing", where=key, allowed="a value", do=f"set {key}=VALUE")
    return ConfigError(text, where=key, allowed=_allowed_type(cause), do="give a value of that type")


def _allowed_type(error: BaseException) -> str:
    text = str(error)
    if found := re.search(r"expected one of \[([^]]+)\]", text):
        return found.group(1)
    if found := re.search(r"could not be converted to (\w+)", text):
        return {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}.get(
            found.group(1), found.group(1)
        )
    return "a value of the field's type"


def _is_node_resource(override: Override) -> bool:
    steps = override.key_or_group.split(".")
    return len(steps) == 3 and steps[0] == "resources"  # noqa: PLR2004 - resources.NODE.FIELD


def _set_open_key(composed: DictConfig, override: Override) -> None:
    """Keys that are names of ours (a node without resources yet, what a search varies), which Hydra refuses as new."""
    try:
        if override.key_or_group == "tune.search":
            composed.tune.search = override.value()
        else:
            _set_node_resource(composed, override)
    except OmegaConfBaseException as error:
        raise _value_error(error) from error


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


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
