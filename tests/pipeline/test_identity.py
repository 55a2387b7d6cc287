"""What enters a fingerprint and what does not, over every field of every stage; and the keys of one recipe, pinned."""

import dataclasses
import enum
import types
import typing
from functools import cache
from typing import Any

import pytest

from model.config import CONFIGS, ModelConfig
from pipeline.config import compose_recipe
from pipeline.dag.fingerprint import fingerprint, payload
from pipeline.recipe import PipelineConfig
from pipeline.stages import STAGES

CIRCUMSTANCE = {
    ("ingest", "paths"),
    ("import_tokenizer", "path"),
    ("import_vectors", "path"),
    ("evaluate_vectors", "analogies"),
    ("evaluate_vectors", "similarities"),
    ("finetune", "init_from"),
    ("register", "experiment"),
}
"Every field of a stage that is not identity; one more here is a decision."


def paths(config: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every leaf of a dataclass, nested ones walked; inputs enter by content and are left out."""
    found = []
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if each.name == "inputs":
            continue
        found += (
            paths(value, (*prefix, each.name)) if dataclasses.is_dataclass(value) else [(*prefix, each.name)]
        )
    return found


def other(hint: Any, value: Any) -> Any:
    """A value of the same type that is not `value`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = [each for each in typing.get_args(hint) if each is not type(None)]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return next(member for member in hint if member is not value)
    if hint is bool:
        return not value
    if hint in (int, float):
        return hint(1 if value is None else value + 1)
    if hint is str:
        return f"{value or '/'}x"  # such as a folder, which some fields ask for
    if typing.get_origin(hint) is list:
        return [*(value or []), other(typing.get_args(hint)[0], None)]
    if typing.get_origin(hint) is dict:
        return {**value, "x": other(typing.get_args(hint)[1], None)}
    raise AssertionError(f"no other value of {hint}")


def with_other(config: Any, path: tuple[str, ...]) -> Any:
    name, *rest = path
    value = getattr(config, name)
    changed = (
        with_other(value, tuple(rest)) if rest else other(typing.get_type_hints(type(config))[name], value)
    )
    copy = dataclasses.replace(config)
    setattr(copy, name, changed)
    return copy


def instances() -> list[Any]:
    """Every stage, and those that hold a model once with each architecture."""
    found = []
    for kind in STAGES:
        stage = kind()
        if isinstance(getattr(stage, "model", None), ModelConfig):
            found += [dataclasses.replace(stage, model=config()) for config in CONFIGS.values()]  # type: ignore[call-arg]
        else:
            found.append(stage)
    return found


LEAVES = [(stage, path) for stage in instances() for path in paths(stage)]


def key(stage: Any) -> str:
    return fingerprint(payload(stage, {"input": ["digest"]}, "files"))


@pytest.mark.parametrize(
    ("stage", "path"),
    LEAVES,
    ids=[f"{stage.name}-{'.'.join(path)}-{n}" for n, (stage, path) in enumerate(LEAVES)],
)
def test_a_field_of_a_stage_is_identity_unless_it_is_listed_as_circumstance(stage, path):
    changes = key(with_other(stage, path)) != key(stage)
    assert changes == ((stage.name, ".".join(path)) not in CIRCUMSTANCE)


def test_every_stage_is_looked_at():
    assert {stage.name for stage, _ in LEAVES} == {stage.name for stage in STAGES if paths(stage())}
    assert len(LEAVES) > 80


def test_stage_version_and_inputs_are_identity():
    stage = STAGES[1]()
    keys = {
        fingerprint(payload(stage, {"documents": ["a"]})),
        fingerprint(payload(stage, {"documents": ["b"]})),
        fingerprint(payload(stage, {"documents": ["a", "b"]})),
        fingerprint(payload(stage, {"documents": ["b", "a"]})),
        fingerprint(payload(stage, {"documents": ["a"]}, "files")),
        fingerprint(payload(STAGES[2](), {"documents": ["a"]})),
        fingerprint(payload(stage, {"documents": ["a"]}) | {"version": 99}),
    }
    assert len(keys) == 7


@cache
def recipe_keys(*overrides: str) -> dict[str, str]:
    """The key of each node of the quickstart, with fixed digests in place of its inputs' bytes."""
    stages = compose_recipe(list(overrides)).config.stages
    return {node: fingerprint(payload(stage, digests_for(stage), "")) for node, stage in stages.items()}


def digests_for(stage: Any) -> dict[str, list[str]]:
    """One for each reference: a port that is empty, such as one that was added later, has none."""
    return {name: ["0" * 64 for _ in references] for name, (_, references, _) in stage.ports().items()}


def circumstances() -> list[str]:
    """An override of every field that is beside `stages`."""
    found = []
    sections = {"resources.base": PipelineConfig().resources_of("base")}
    sections |= {name: getattr(PipelineConfig(), name) for name in ("tracking", "cluster", "tune")}
    for name, section in sections.items():
        hints = typing.get_type_hints(type(section))
        for each in dataclasses.fields(section):
            if each.name != "search":
                value = other(hints[each.name], getattr(section, each.name))
                found.append(f"{name}.{each.name}={value.name if isinstance(value, enum.Enum) else value}")
    return ["store=elsewhere", "stages.corpus.paths=[elsewhere]", "+tune.search.x='choice(1)'", *found]


@pytest.mark.parametrize("override", circumstances())
def test_where_and_on_what_a_recipe_runs_changes_no_key(override):
    assert recipe_keys(override) == recipe_keys()


GOLDEN = {
    "corpus": "8ac591e933d304dc121084a6e8e10629",
    "clean": "93abd1b5392c548293b40b9bd242d589",
    "dedup": "600dd31a99455c9eb23599d7d3e04b2c",
    "split": "bf178c8d5793aff57d7c5bcfbb4fede7",
    "tokenizer": "0d78401a4a6fc57cc92e8390fb635616",
    "tokens": "22dc52394f8d6dd8faacf105fabf4e1e",
    "base": "00237a329842fb64aafb4c17b88f1027",
    "base_score": "9e8d3ed4bc058a5d6e83f04a9d63ab10",
    "pairs": "8a48b9a1c4ab00f5fbdbe80e421317a3",
    "pair_tokens": "585e6c0f23c733d4c026ad67de197099",
    "summarizer": "e4ee54ee94bbeebca8e24599ee3b8420",
    "summarizer_score": "c8af42b8f7b5d8d9de221c2df4108fd3",
    "export": "a0d609cda8f1e4192547d54480238c08",
    "register": "da8cb626dab74d63de14568ed11fade6",
}


def test_the_keys_of_the_quickstart_are_pinned():
    """A changed default, or a changed recipe, makes everybody's artifacts stale: it is a decision, taken here."""
    assert recipe_keys() == GOLDEN
