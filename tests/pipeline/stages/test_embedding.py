"""A model begins from word vectors: which rows, how large, how many; what does not fit is refused at composition."""

import io

import numpy as np
import pytest
import torch

from data.tokenizer import Tokenizer
from data.vectors.word_vectors import WordVectors
from pipeline.config import compose_recipe
from pipeline.dag.folder import open_folder
from pipeline.dag.graph import Graph
from pipeline.dag.stage import Input
from pipeline.dag.store import Manifest, Store
from pipeline.errors import ConfigError
from pipeline.stages.embedding import prepare
from pipeline.training.beginning import begin_embedding

NODES = """\
  - /stage/word_vectors@stages.vectors
  - _self_
"""
SETTINGS = """\
  vectors: {inputs: {tokens: tokens/train, tokenizer: tokenizer}, algorithm: glove, width: 32, min_count: 2}
"""


@pytest.fixture
def with_vectors(make_tiny):
    """The tiny recipe, its model beginning from vectors learned of its tokens."""
    store = make_tiny()
    recipe = store.recipe.read_text().replace("  - _self_\n", NODES)
    recipe = recipe.replace("{tokens: tokens/train,", "{tokens: tokens/train, embedding_init: vectors,")
    store.recipe.write_text(recipe + SETTINGS)
    return store


def test_vectors_of_another_width_are_refused_when_the_recipe_is_composed(with_vectors):
    assert Graph(compose_recipe(with_vectors.overrides).config.stages).order
    composed = compose_recipe([*with_vectors.overrides, "stages.vectors.width=50"])
    with pytest.raises(ConfigError, match="50 numbers") as refused:
        Graph(composed.config.stages)
    assert refused.value.where == "stages.base.inputs.embedding_init"
    assert "32" in refused.value.allowed
    assert refused.value.do


def test_a_model_cannot_begin_from_a_model_and_from_vectors(with_vectors):
    composed = compose_recipe([*with_vectors.overrides, "stages.base.inputs.initial=base"])
    with pytest.raises(ConfigError, match="both from a model and from vectors"):
        Graph(composed.config.stages)


@pytest.fixture
def context(tmp_path, tiny, in_process):
    """Of a training node whose vectors have three of its tokenizer's tokens, spelled and as words."""
    tokenizer = next(each for each in Store(tiny.url).artifacts() if each.manifest.node == "tokenizer")
    spelled = next(
        token for token in Tokenizer.load(tokenizer.folder.local()).tokens() if token[:1] == "\u0120"
    )
    words = [spelled, "a", "b", "unheard of"]
    vectors = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    WordVectors(words, np.ones(4, np.int64), vectors).save(tmp_path / "vectors")
    manifest = Manifest("word_vectors", "", "vectors", "vectors", {}, {}, [], {"width": 3}, {}, {})
    given = {
        "tokenizer": [Input("tokenizer", "", "tokenizer", tokenizer.folder, tokenizer.manifest)],
        "embedding_init": [Input("vectors", "", "vectors", open_folder(str(tmp_path / "vectors")), manifest)],
    }
    return in_process(inputs=given, output=None, scratch=open_folder(str(tmp_path / "scratch"))), words


def test_rows_are_laid_in_by_token_and_counted(context):
    rows, found = prepare(context[0], 3)
    tokenizer = Tokenizer.load(context[0].one("tokenizer").folder.local())
    counts = {name.partition("/")[2]: count for name, count in found.counters.items()}
    assert counts["same"] == 3
    assert sum(counts.values()) == tokenizer.vocab_size
    size = tokenizer.vocab_size - counts["control"]
    assert found.metrics == {"embedding_init/coverage": (counts["same"] + counts["as_word"]) / size}
    drawn = torch.randn(tokenizer.vocab_size, 3, generator=torch.Generator().manual_seed(0)) * 0.02
    weight = torch.nn.Parameter(drawn.clone())
    begin_embedding(weight, rows)
    ids = np.load(io.BytesIO(rows.read_bytes("ids.npy")))
    vectors = torch.from_numpy(np.load(io.BytesIO(rows.read_bytes("rows.npy"))))
    a = tokenizer.tokens().index("a")
    torch.testing.assert_close(vectors[ids.tolist().index(a)], torch.tensor([4.0, 5.0, 6.0]))
    laid, left = weight.detach()[ids], np.setdiff1d(np.arange(len(drawn)), ids)
    torch.testing.assert_close(laid / vectors, torch.full_like(laid, (laid / vectors)[0, 0].item()))
    torch.testing.assert_close(laid.square().mean(), drawn.square().mean())
    assert torch.equal(weight.detach()[left], drawn[left])


def test_vectors_of_unknown_origin_are_refused_once_their_width_is_known(context):
    with pytest.raises(ConfigError, match="have 3 numbers") as refused:
        prepare(context[0], 4)
    assert refused.value.where == "stages.node.inputs.embedding_init"


@pytest.mark.soak
def test_a_model_trains_from_the_vectors_of_its_tokens(with_vectors, monkeypatch, capfd):
    """On a real Ray: counting, learning, matching and two steps."""
    from pipeline.cli import main

    monkeypatch.chdir(with_vectors.recipe.parent)
    assert main(["run", "base", *with_vectors.overrides]) == 0, capfd.readouterr()
    found = {each.manifest.node: each.manifest for each in Store(with_vectors.url).artifacts()}
    vectors, base = found["vectors"], found["base"]
    assert vectors.counters["pairs"] > 0
    assert vectors.counters["learned_tokens"] <= vectors.counters["tokens"]
    assert base.counters["embedding_init/same"] == vectors.counters["words"]
    assert 0 < base.metrics["embedding_init/coverage"] < 1
    assert base.metrics["train/loss"] < 7
