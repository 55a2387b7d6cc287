"""A user's own recipes: found by path and in the current folder's `conf`, and made quick to compose."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from pipeline.config.refusals import first_line
from pipeline.errors import ConfigError
from pipeline.schema import members, recipe_names
from pipeline.stages import STAGES

STAGE_DEFAULT = re.compile(r"/stage/(?P<stage>\w+)@stages\.(?P<node>\w+)")
"A node in a recipe's defaults list."

OWN = "__own"
"How Hydra's store calls what a file of the current folder's `conf/recipe` became: the plain name means the file."


def with_own_recipes(overrides: list[str]) -> list[str]:
    """Let `recipe=` find YAML files by path, and names in the current folder's `conf`."""
    for group in (
        "recipe",
        "recipe_nodes",
    ):  # of an earlier composition in this process: other files of these names
        ConfigStore.instance().repo.pop(group, None)
    found = [_stored_recipe(each) for each in overrides]
    if Path("conf/recipe").is_dir():
        found.append(f"hydra.searchpath=[file://{Path('conf').absolute()}]")
    return found


def _stored_recipe(override: str) -> str:
    """Put the recipe's file into Hydra's store, and name it; other overrides, and shipped recipes, stay as they are."""
    if not override.startswith("recipe="):
        return override
    path = Path(override.partition("=")[2]).expanduser()
    if path.suffix not in {".yaml", ".yml"}:
        return override if path.name in members("recipe", own=False) else _own_recipe(path.name)
    if path.is_file() and path.absolute().parent == Path("conf/recipe").absolute():
        return _own_recipe(path.stem)
    try:
        content: Any = OmegaConf.load(path)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(
            f"the recipe cannot be read: {first_line(error)}",
            where=override,
            allowed=f"a YAML file, or one of {', '.join(recipe_names())}",
            do="correct the path or the file",
        ) from error
    name = f"{path.stem}_file" if path.stem in recipe_names() else path.stem
    _gather_stages(content, name)
    ConfigStore.instance().store(group="recipe", name=name, node=content, package="_global_")
    return f"recipe={name}"


def _own_recipe(name: str) -> str:
    """A recipe in the current folder's `conf`: Hydra finds it there, and ours is faster where it has many nodes."""
    with suppress(OSError, yaml.YAMLError):  # Hydra says it with file and line
        content: Any = OmegaConf.load(Path("conf/recipe", f"{name}.yaml"))
        if _gather_stages(content, name + OWN):
            ConfigStore.instance().store(group="recipe", name=name + OWN, node=content, package="_global_")
            return f"recipe={name}{OWN}"
    return f"recipe={name}"


def _gather_stages(content: Any, name: str) -> bool:
    """Put the nodes' schemas into one default: Hydra merges each default into the whole, quadratic in their number.

    Returns:
        Whether there were any.
    """
    kinds = {stage.name: stage for stage in STAGES}
    defaults: Any = (content.get("defaults") if isinstance(content, DictConfig) else None) or []
    found = [STAGE_DEFAULT.fullmatch(each) if isinstance(each, str) else None for each in defaults]
    is_node = [match is not None and match["stage"] in kinds for match in found]
    if not any(is_node):
        return False
    nodes = {match["node"]: kinds[match["stage"]] for match in found if match and match["stage"] in kinds}
    ConfigStore.instance().store(group="recipe_nodes", name=name, node={"stages": nodes}, package="_global_")
    first = is_node.index(True)
    rest = [each for each, node in zip(defaults, is_node, strict=True) if not node]
    content.defaults = [*rest[:first], f"/recipe_nodes/{name}", *rest[first:]]
    return True
