import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from omegaconf import OmegaConf
from safetensors.numpy import load_file

import data
from data.contamination import OverlapRules
from data.dedup.exact import DedupRules
from data.dedup.near import NearRules
from data.dedup.sketches import KEY_SCHEMA, sketch_schema
from data.documents import DOCUMENT_SCHEMA
from data.example_sources import ExampleRules
from data.examples import EXAMPLE_SCHEMA
from data.filters import FilterRules
from data.ipc import open_batches
from data.normalize import NormalizeRules
from data.readers import COMPRESSIONS, SUFFIXES
from data.readers.parts import PARTED
from data.reading import ReadRules, TextFormat
from data.sampling import SampleRules
from data.shards import TokenFormat
from data.splits import SplitRules
from data.tokenizer_training import TokenizerRules
from data.vectors.word_vectors import TENSORS_FILE, WORD_SCHEMA, WORDS_FILE, Subwords, WordVectors

FORMATS = (Path(data.__file__).parent / "FORMATS.md").read_text()
RULES = (
    DedupRules,
    ExampleRules,
    FilterRules,
    NearRules,
    NormalizeRules,
    OverlapRules,
    ReadRules,
    SampleRules,
    SplitRules,
    TokenizerRules,
)


def tables(title: str) -> list[list[list[str]]]:
    """The tables of a section: rows of cells, without the header."""
    section = re.search(rf"^## {title}.*?(?=^## |\Z)", FORMATS, re.MULTILINE | re.DOTALL).group()
    blocks = re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]
        for block in blocks
    ]


def test_the_table_of_what_is_read_is_what_the_readers_know():
    (table,) = tables("What is read")
    assert [name for name, *_ in table] == [each.value for each in TextFormat if each is not TextFormat.auto]
    suffixes = {suffix: TextFormat(name) for name, cell, *_ in table for suffix in re.findall(r"\.\w+", cell)}
    assert suffixes == SUFFIXES
    assert {TextFormat(name) for name, *_, parted in table if parted} == set(PARTED)
    assert all(f"`{suffix}`" in FORMATS for suffix in COMPRESSIONS)


def columns(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in schema]


@pytest.mark.parametrize(("title", "schema"), [("Documents", DOCUMENT_SCHEMA), ("Examples", EXAMPLE_SCHEMA)])
def test_tables_of_documents_and_examples_are_the_schemas(title, schema):
    (table,) = tables(title)
    assert [(name, kind) for name, kind, _ in table] == columns(schema)


def test_table_of_tokens_is_the_schema_in_all_its_forms():
    table, keys = tables("Tokens")
    narrow, wide = (TokenFormat("hash", size, 0, has_loss_mask=True).schema() for size in (65536, 65537))
    written = [(name, set(kind.split(" or "))) for name, kind, _ in table]
    both = zip(columns(narrow), columns(wide), strict=True)
    assert written == [(name, {kind, other}) for (name, kind), (_, other) in both]
    without = TokenFormat("hash", 1000, 0).schema().names
    assert without == [name for name, _, meaning in table if not meaning.startswith("examples only")]
    assert [key for key, _ in keys] == sorted(key.decode() for key in narrow.metadata)


def test_tables_of_sketches_and_keys_are_the_schemas():
    sketches, keys = tables("Sketches of documents")
    schema = sketch_schema(NearRules(num_bands=14, num_rows=8))
    assert [(name, kind) for name, kind, _ in sketches] == columns(schema)
    assert sketch_schema(None).names == schema.names[:-1]
    assert [(name, kind) for name, kind, _ in keys] == columns(KEY_SCHEMA)


def test_tables_of_word_vectors_are_what_is_written(tmp_path):
    ones = np.ones((1, 2), np.float32)
    WordVectors(["mill"], np.ones(1, np.int64), ones, Subwords(ones, ones, 3, 6)).save(tmp_path)
    words, keys, tensors = tables("Word vectors")
    assert [(name, kind) for name, kind, _ in words] == columns(WORD_SCHEMA)
    schema = open_batches(tmp_path / WORDS_FILE, kind="words").schema
    assert [key for key, _ in keys] == sorted(key.decode() for key in schema.metadata)
    assert {name for name, *_ in tensors} == set(load_file(tmp_path / TENSORS_FILE))


@pytest.mark.parametrize("rules", RULES)
def test_rules_are_schemas_that_a_recipe_can_hold(rules):
    config = OmegaConf.structured(rules)
    written = OmegaConf.create(OmegaConf.to_yaml(config))
    assert OmegaConf.to_object(OmegaConf.merge(config, written)) == rules()
    with pytest.raises(Exception, match="not in"):
        OmegaConf.update(config, "no_such_rule", 1)


@pytest.mark.parametrize("rules", RULES)
def test_every_rule_says_what_it_is(rules):
    source = Path(__import__(rules.__module__, fromlist=["_"]).__file__).read_text()
    for field in fields(rules):
        assert re.search(rf'^    {field.name}: .*\n    "', source, re.MULTILINE), f"{field.name} has no words"
