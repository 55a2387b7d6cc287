"""The best trial as a recipe: the original one as its default, and the values that differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import parse_overrides
from pipeline.errors import ConfigError

SECTIONS = ("stages", "store", "tracking", "resources", "cluster")
HEADER = "# @package _global_\n"


def check_expressible(overrides: Sequence[str]) -> None:
    """Refuse, before anything is run, overrides that a recipe cannot repeat.

    Raises:
        ConfigError: the first of them.
    """
    for each in parse_overrides(overrides):
        steps = each.key_or_group.split(".")
        if steps[0] in ("recipe", "tune", "hydra"):
            continue
        plain = steps[0] in SECTIONS and not each.is_delete() and each.package is None
        if not plain or any(step.isdigit() or "[" in step for step in steps):
            raise ConfigError(
                f'the override "{each.input_line}" cannot be written into a recipe, as the best trial will be',
                where="the command line",
                allowed="KEY=VALUE with a key below stages, store, tracking, resources or cluster",
                do="put it into a recipe file and search over that one: recipe=FILE.yaml",
            )


def best_recipe(path: Path, overrides: Sequence[str], values: Mapping[str, Any], *, words: str) -> str:
    """The text of a recipe: the one that the overrides name, with them and with `values` on top.

    Args:
        path: where it will be written; a recipe of that very name is taken up rather than referred to.
        overrides: of the search's command line.
        values: key to value, of the best trial.
        words: what stands in its heading.
    """
    parsed = parse_overrides(overrides)
    named = [str(each.value()) for each in parsed if each.key_or_group == "recipe"]
    content = _original(named[-1] if named else _default_recipe(), path)
    for each in parsed:
        if each.key_or_group.split(".")[0] in SECTIONS:
            _set(content, each.key_or_group, each.value())
    for key, value in values.items():
        _set(content, key, value)
    heading = "".join(f"# {line}\n" for line in words.splitlines())
    body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return f"{HEADER}{heading}{body}"


def write_recipe(path: Path, text: str) -> None:
    """Write it in one piece; where it lies already as it should, nothing is touched."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _original(recipe: str, path: Path) -> dict[str, Any]:
    """A recipe with a name is referred to by it; a file, which has none for other folders, is taken up whole."""
    own = Path("conf/recipe") / f"{recipe}.yaml"
    file = Path(recipe).expanduser() if recipe.endswith((".yaml", ".yml")) else own
    if file is own and file.absolute() != path.absolute():
        return {"defaults": [recipe, "_self_"]}
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    content.pop("tune", None)
    return content


def _default_recipe() -> str:
    import conf

    root = yaml.safe_load((Path(str(conf.__file__)).parent / "pipeline.yaml").read_text(encoding="utf-8"))
    return next(str(each["recipe"]) for each in root["defaults"] if isinstance(each, dict))


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *above, name = key.split(".")
    for step in above:
        content = content.setdefault(step, {})
    content[name] = value
