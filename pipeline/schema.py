"""The names that a recipe may use: members of the groups under `conf`, and fields of every schema."""

import dataclasses
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from model.config import CONFIGS
from pipeline.errors import ConfigError, close_match
from pipeline.recipe import PipelineConfig
from pipeline.stages import STAGES


def recipe_names() -> list[str]:
    """The recipes that `recipe=NAME` finds: those of the current folder's conf/recipe, and the shipped ones."""
    return members("recipe")


def members(group: str, *, own: bool = True) -> list[str]:
    """What a group offers, in the current folder's conf (`own`) and in ours."""
    import conf

    if group == "stage":
        return [stage.name for stage in STAGES]
    folders = [Path(str(conf.__file__)).parent / group, *([Path("conf") / group] if own else [])]
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


def unknown_in_schema(key: str, name: str, schema: str) -> ConfigError:
    """What to say of the key `name` at the dotted path `key`, which the dataclass called `schema` does not have."""
    steps = key.split(".")
    if schema == "Stage":
        return ConfigError(
            f'the node "{steps[1]}" has no stage',
            where=f"stages.{steps[1]}",
            allowed=", ".join(members("stage")),
            do=f"say what it does in the recipe's defaults: - /stage/NAME@stages.{steps[1]}",
        )
    fields = [
        each.name for kind in _schemas() if kind.__name__ == schema for each in dataclasses.fields(kind)
    ]
    return ConfigError(
        f'there is no key "{name}" in {".".join(steps[:-1]) or "the recipe"}',
        where=key,
        allowed=", ".join(dict.fromkeys(fields)),
        do=f"{close_match(name, fields)}correct the name",
    )


@cache
def mapping_fields() -> frozenset[str]:
    """Fields of all schemas that hold values by names of the user's."""
    every = (each for kind in _schemas() for each in dataclasses.fields(kind))
    return frozenset(each.name for each in every if typing.get_origin(each.type) is dict)


def _schemas() -> set[Any]:
    """Every dataclass that a recipe's values end in."""
    found: set[Any] = set()
    waiting: list[Any] = [PipelineConfig, *STAGES, *CONFIGS.values()]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind not in found:
            found.add(kind)
            waiting += [part for hint in typing.get_type_hints(kind).values() for part in _parts(hint)]
    return found


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in typing.get_args(hint):
        yield from _parts(part)
