from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import pytest

from pipeline.dag.fingerprint import (
    DigestMemory,
    canonical,
    content_digest,
    differences,
    fingerprint,
    payload,
)
from pipeline.dag.stage import circumstance


class Colour(Enum):
    red = 1


@dataclass
class Inner:
    rate: float = 0.5
    threads: int = circumstance(2)


@dataclass
class Outer:
    colour: Colour = Colour.red
    inner: Inner = field(default_factory=Inner)
    names: tuple[str, ...] = ("b", "a")


def test_canonical_values_are_plain_and_without_circumstance():
    assert canonical(Outer()) == {"colour": "red", "inner": {"rate": 0.5}, "names": ["b", "a"]}


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: "a"}, {"a"}, object(), len, Path("a"), b"a"]
)
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(TypeError):
        canonical({"field": value})


def test_the_order_of_keys_does_not_matter_and_every_value_does():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    keys = {
        fingerprint(each) for each in ({"a": 1}, {"a": "1"}, {"a": [1]}, {"a": None}, {"b": 1}, {"a": True})
    }
    assert len(keys) == 6


def test_the_key_of_a_known_node_is_golden(toy_stages):
    """Keys outlive releases: when this fails, every artifact in every store has lost its name."""
    stage = toy_stages.Upper(suffix="!")
    assert fingerprint(payload(stage, {"lines": ["ab" * 32]})) == "472c38f8df4d515c37e5807b6e1a6822"


def test_circumstance_leaves_the_key_and_identity_changes_it(toy_stages):
    def key(**settings):
        return fingerprint(payload(toy_stages.Upper(**settings), {"lines": ["x"]}))

    assert key(noise=1) == key(noise=2)
    assert key(suffix="a") != key(suffix="b")
    assert key() != fingerprint(payload(toy_stages.Upper(), {"lines": ["y"]}))


def test_content_digest_depends_on_names_and_bytes_and_not_on_order():
    files = [("a", "1"), ("b", "2")]
    assert content_digest(files) == content_digest(reversed(files))
    assert len({content_digest(each) for each in (files, [("a", "2"), ("b", "1")], files[:1])}) == 3


def test_differences_name_the_leaf():
    old = {"config": {"rules": {"min_words": 20, "max": 1}}, "inputs": {"a": ["1"]}}
    new = {"config": {"rules": {"min_words": 30, "max": 1}, "new": True}, "inputs": {"a": ["1"]}}
    assert differences(old, new) == [("config.rules.min_words", 20, 30), ("config.new", None, True)]


def test_the_memory_sees_a_change_of_bytes_and_survives_a_restart(tmp_path):
    file, database = tmp_path / "file", tmp_path / "digests.sqlite"
    file.write_text("one")
    (first,) = DigestMemory(database).digests([str(file)])
    (again,) = DigestMemory(database).digests([str(file)])
    file.write_text("other")
    (changed,) = DigestMemory(database).digests([str(file)])
    assert first == again != changed


def test_a_place_that_cannot_be_written_only_costs_the_memory(tmp_path):
    (tmp_path / "taken").write_text("a file where a folder is wanted")
    file = tmp_path / "file"
    file.write_text("one")
    assert DigestMemory(tmp_path / "taken" / "digests.sqlite").digests([str(file)])


def test_a_field_that_was_added_later_counts_once_it_is_set():
    @dataclass
    class Before:
        size: int = 1

    @dataclass
    class After(Before):
        window: int | None = field(default=None, metadata={"added_later": True})
        kinds: list[str] = field(default_factory=list, metadata={"added_later": True})

    assert canonical(After()) == canonical(Before())
    assert canonical(After(window=4)) == {"size": 1, "window": 4}
    assert canonical(After(kinds=["a"])) == {"size": 1, "kinds": ["a"]}
