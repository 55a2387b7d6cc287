"""A tiny recipe with a node of every kind, and a builder that runs its stages in this process, without Ray."""

import json
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import compose_recipe
from pipeline.dag import facts
from pipeline.dag.fingerprint import fingerprint
from pipeline.dag.graph import Graph
from pipeline.dag.lineage import describe, gather_inputs
from pipeline.dag.plan import Planner
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Stage, StageContext, StageResult
from pipeline.dag.store import Artifact, Store
from pipeline.stages.pretrain import Pretrain

RECIPE = """\
# @package _global_
defaults:
  - /stage/ingest@stages.corpus
  - /stage/clean@stages.clean
  - /stage/dedup@stages.dedup
  - /stage/split@stages.split
  - /stage/tokenizer@stages.tokenizer
  - /stage/import_tokenizer@stages.imported
  - /stage/tokenize@stages.tokens
  - /stage/pretrain@stages.base
  - /model/llama_tiny@stages.base.model
  - /stage/evaluate@stages.score
  - /stage/examples@stages.pairs
  - /stage/tokenize@stages.pair_tokens
  - /stage/export@stages.export
  - _self_
stages:
  corpus: {paths: [CORPUS]}
  clean: {inputs: {documents: corpus}, rules: {min_words: 3}}
  dedup: {inputs: {documents: clean}}
  split: {inputs: {documents: dedup}, rules: {validation_fraction: 0.2, test_fraction: 0.2}}
  tokenizer: {inputs: {documents: split/train}, rules: {vocab_size: 320}}
  imported:
    path: FOLDER/ours.tiktoken
    inputs: {documents: split/test}
    rules: {pattern: gpt2, eos_token: <|end|>, special_tokens: [<|user|>]}
  tokens: {inputs: {documents: split, tokenizer: tokenizer}}
  base:
    inputs: {tokens: tokens/train, tokenizer: tokenizer}
    model: {hidden_size: 32, intermediate_size: 64, num_layers: 2, num_heads: 2, num_kv_heads: 1, max_seq_len: 64}
    seq_len: 32
    global_batch_tokens: 64
    num_steps: 2
    warmup_steps: 1
    precision: fp32
  score: {inputs: {model: base, tokens: tokens/test}, num_samples: 2, max_new_tokens: 4}
  pairs: {inputs: {documents: split}, source: python_docstrings}
  pair_tokens: {inputs: {documents: pairs, tokenizer: tokenizer}}
  export: {inputs: {model: base}}
"""
WORDS = ("water", "wheel", "race", "gate", "mill", "stone", "river", "dam", "sluice", "flume")


def write_corpus(folder: Path) -> None:
    """Thirty small Python files, one of them twice, one too short to stay, and rows of JSON."""
    folder.mkdir()
    for number in range(30):
        name, other = WORDS[number % 10], WORDS[(number * 7 + 3) % 10]
        text = (
            f'def {name}_{number}(x):\n    """Turn the {other} of x.\n\n    Number {number}.\n    """\n'
            f"    return x + {number}\n\n\nclass {name.title()}{number}:\n    {other} = '{name} and {other}'\n"
        )
        (folder / f"{name}_{number:02d}.py").write_text(text)
    (folder / "again.py").write_text((folder / "water_00.py").read_text())
    (folder / "short.py").write_text("x=1\n")
    rows = [{"text": f"The {word} by the river, café {number}: 水"} for number, word in enumerate(WORDS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_ranks(path: Path) -> None:
    """Ranks as tiktoken has them: the bytes, then a few merges."""
    tokens = [bytes([byte]) for byte in range(256)] + [
        b"wa",
        b"er",
        b"ter",
        b"water",
        b" water",
        b"re",
        b" re",
    ]
    lines = [b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)]
    path.write_bytes(b"".join(lines))


class Silence:
    def send(self, event: dict[str, Any]) -> None:
        pass


def serial_map(
    function: Callable[..., dict[str, Any]], items: dict[str, tuple[Any, ...]], **_: Any
) -> dict[str, dict[str, Any]]:
    """`StageContext.map` in this process; results are what JSON keeps, as with Ray."""
    return {name: json.loads(json.dumps(function(*item))) for name, item in items.items()}


def run_stage(stage: Stage, context: StageContext) -> StageResult:
    return untrained(stage, context) if isinstance(stage, Pretrain) else stage.run(context)


def untrained(stage: Pretrain, context: StageContext) -> StageResult:
    """A checkpoint with the weights that training begins from."""
    import torch

    from data.tokenizer import Tokenizer
    from model.registry import build_model
    from model.weights import save_weights

    tokenizer = Tokenizer.load(context.one("tokenizer").folder.local())
    config = stage.model.with_vocab_size(tokenizer.vocab_size)
    torch.manual_seed(stage.seed)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)  # far from a tie between two tokens
    save_weights(Path(context.output.path), config, model.state_dict())
    tokenizer.save(Path(context.output.path) / "tokenizer")
    return StageResult({"steps": stage.length().num_steps, "tokens": 1234}, {"train/loss": 2.5})


@dataclass
class TinyStore:
    """A store that holds what the tiny recipe's nodes give."""

    recipe: Path
    url: str

    @property
    def overrides(self) -> list[str]:
        return [f"recipe={self.recipe}", f"store={self.url}"]

    def build(self, targets: Sequence[str] = (), overrides: Sequence[str] = ()) -> dict[str, Artifact]:
        """What the runner does, without Ray, lock and events."""
        composed = compose_recipe([*self.overrides, *overrides])
        graph, store = Graph(composed.config.stages), Store(self.url)
        planner = Planner(graph, store, recipe=composed.recipe)
        artifacts: dict[str, Artifact] = {}
        for node in graph.needed_by(targets):
            identity = planner.identify(node, artifacts)
            key = fingerprint(identity)
            artifacts[node] = planner.find(node, key) or self._commit(planner, node, key, identity, artifacts)
            store.note_last(composed.recipe, node, graph.stages[node].name, key)
        return artifacts

    def _commit(
        self, planner: Planner, node: str, key: str, identity: dict[str, Any], artifacts: dict[str, Artifact]
    ) -> Artifact:
        stage = planner.graph.stages[node]
        work = planner.store.work_folder(stage.name, key)
        context = StageContext(
            node=node,
            key=key,
            inputs=gather_inputs(planner.graph, node, artifacts),
            output=work.child("output"),
            scratch=work.child("scratch"),
            resources=Resources(),
            channel=Silence(),
            map=serial_map,
        )
        Path(context.output.path).mkdir(parents=True, exist_ok=True)
        started_at = time.time()
        result = run_stage(stage, context)
        now = facts.gather("20260101-000000-1", started_at, {})
        return planner.store.commit(describe(stage, context, identity, result, facts=now, pinned=()))


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], TinyStore]:
    """Empty stores, each with the recipe and a corpus of its own."""

    def make() -> TinyStore:
        folder = tmp_path_factory.mktemp("tiny")
        write_corpus(folder / "corpus")
        write_ranks(folder / "ours.tiktoken")
        (folder / "tiny.yaml").write_text(
            RECIPE.replace("CORPUS", str(folder / "corpus")).replace("FOLDER", str(folder))
        )
        return TinyStore(folder / "tiny.yaml", str(folder / "store"))

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[[], TinyStore]) -> TinyStore:
    """A finished store; only for looking at."""
    store = make_tiny()
    store.build()
    return store


@pytest.fixture
def in_process() -> Callable[..., StageContext]:
    """The context of one stage whose map runs in this process."""

    def context(**fields: Any) -> StageContext:
        defaults = {"node": "node", "key": "0" * 32, "resources": Resources(), "channel": Silence()}
        return StageContext(**defaults | {"map": serial_map} | fields)

    return context
