"""Word vectors as what a model's token embedding begins from (`embedding_init`)."""

from collections.abc import Mapping
from typing import Any

from data.tokenizer import Tokenizer
from data.vectors.matching import Match, match_tokens
from data.vectors.word_vectors import WordVectors
from pipeline.dag.arrays import save_array
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, refuse_first
from pipeline.stages.word_vectors import LearnVectors

PORT = "embedding_init"
KNOWN = (Match.same, Match.as_word, Match.by_subwords)


def width_problems(sources: Mapping[str, list[Stage]], hidden_size: int) -> list[Problem]:
    """Vectors that will be of another width than the model, as far as their stage tells."""
    return [
        Problem(f"inputs.{PORT}", *_refusal(each.width, hidden_size))
        for each in sources.get(PORT, [])
        if isinstance(each, LearnVectors) and each.width != hidden_size
    ]


def prepare(context: StageContext, hidden_size: int) -> tuple[Folder | None, StageResult]:
    """Match the vectors with the tokenizer's tokens: where their rows lie, and how many tokens have one.

    None where the node has no vectors.

    Raises:
        ConfigError: the vectors are of another width than the model.
    """
    if not context.inputs.get(PORT):
        return None, StageResult()
    folders = context.one(PORT).folder, context.one("tokenizer").folder
    width = context.one(PORT).manifest.counters["width"]
    if width != hidden_size:
        refuse_first([Problem(f"stages.{context.node}.inputs.{PORT}", *_refusal(width, hidden_size))])
    target = context.scratch.child("embedding")
    (counts,) = context.map(match_rows, {"embedding": (*folders, target)}, unit="embeddings").values()
    words = sum(counts.values()) - counts[Match.control.value]
    found = sum(counts[each.value] for each in KNOWN)
    counters = {f"{PORT}/{name}": count for name, count in counts.items()}
    return target, StageResult(counters, {f"{PORT}/coverage": found / max(1, words)})


def match_rows(vectors: Folder, tokenizer: Folder, target: Folder) -> dict[str, Any]:
    """In a worker: write the rows of all tokens that have a vector."""
    from pipeline.training.beginning import EMBEDDING_IDS, EMBEDDING_ROWS

    matched = match_tokens(Tokenizer.load(tokenizer.local()), WordVectors.load(vectors.local()))
    for name, array in ((EMBEDDING_IDS, matched.ids), (EMBEDDING_ROWS, matched.vectors)):
        save_array(target, name, array)
    return matched.counts


def _refusal(width: int, hidden_size: int) -> tuple[str, str, str]:
    return (
        f"the word vectors have {width} numbers, and the model's embedding {hidden_size}",
        f"vectors of width {hidden_size}",
        f"set the width of word_vectors to {hidden_size}, or model.hidden_size to {width}",
    )
