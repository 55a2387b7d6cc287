"""What Hydra and OmegaConf refuse, said in four parts."""

import re
from typing import Any

from hydra import compose
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipeline.errors import ConfigError, close_match
from pipeline.schema import members, unknown_in_schema


def missing_config(error: MissingConfigException) -> ConfigError:
    """A member of a config group that does not exist."""
    wanted = str(error.missing_cfg_file or "").rpartition("/")
    name = wanted[2].removesuffix(".yaml")
    options = members(wanted[0] or "recipe")
    return ConfigError(
        f'there is no {wanted[0] or "config"} "{name}"',
        where=f"{wanted[0]}={name}" if wanted[0] else "the recipe's defaults list",
        allowed=", ".join(options) or first_line(error),
        do=f"{close_match(name, options)}choose one of these, or give the path of a YAML file",
    )


def composition_error(error: ConfigCompositionException, overrides: list[str]) -> ConfigError:
    """An override or a defaults list that does not fit the recipe."""
    cause = error.__cause__ or error.__context__
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found and "No match in the defaults list" not in str(error):
        return _unknown_key(found.group(1), overrides)
    if isinstance(cause, OmegaConfBaseException):
        return value_error(cause)
    if found:
        return ConfigError(
            f"the recipe's defaults list does not choose {found.group(1)}",
            where="the command line",
            allowed="a choice that the list has, or a new one with a + before it",
            do=f"+{found.group(1)}=NAME adds it",
        )
    return ConfigError(
        first_line(error),
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
            return no_such_key(".".join(steps[:index]), step, parent, key)
        parent = parent[step]
    return ConfigError(f'"{key}" cannot be set', where=key, allowed="a field", do="name one of its fields")


def no_such_key(path: str, name: str, parent: Any, where: str) -> ConfigError:
    """A key at `where` that goes astray at `name`, which the config `parent` at `path` does not have."""
    names = [str(each) for each in parent] if isinstance(parent, DictConfig) else []
    kind = "node" if path == "stages" else "key"
    return ConfigError(
        f'there is no {kind} "{name}" in {path or "the recipe"}',
        where=where,
        allowed=", ".join(names) or f"nothing: {path} has no keys",
        do=f"{close_match(name, names)}correct the name",
    )


def value_error(error: Exception) -> ConfigError:
    """A value of the wrong type, an unknown key, or a value that is missing."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = str(getattr(cause, "full_key", "") or "the recipe")
    text = first_line(cause)
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


def first_line(error: object) -> str:
    """What a library says, without its second thoughts."""
    return str(error).strip().partition("\n")[0]
