"""`word_vectors`: vectors of words learned from tokens: word2vec, fastText or GloVe."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data.errors import DataError
from data.tokenizer import Tokenizer
from data.vectors.cooccurrence import MAX_WINDOW
from data.vectors.corpus import Vocabulary, count_ids, sequences, stretches
from data.vectors.word_vectors import Subwords, WordVectors
from model.embeddings.rules import GloveRules, Ngrams
from pipeline.dag.arrays import load_array, save_array
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, one_or_many_ports, port
from pipeline.stages.cooccurrences import Matrix, count_matrix, numbered
from pipeline.stages.sharding import Shard, shards_of
from pipeline.stages.training_node import require_shards

COUNTS = "counts"


class Algorithm(Enum):
    """How words get their vectors."""

    word2vec = "word2vec"
    fasttext = "fasttext"  # with vectors of character n-grams, which give unseen words theirs
    glove = "glove"  # from counts of co-occurrences


class Context(Enum):
    """What word2vec and fastText predict."""

    skip_gram = "skip_gram"  # each word around from the word
    cbow = "cbow"  # the word from all around


DEFAULTS = {
    Algorithm.word2vec: {"window": 5, "num_epochs": 5, "learning_rate": 0.025},
    Algorithm.fasttext: {"window": 5, "num_epochs": 5, "learning_rate": 0.025},
    Algorithm.glove: {"window": 15, "num_epochs": 25, "learning_rate": 0.05},
}
"What each one's authors ship."


@dataclass
class LearnVectors(Stage):
    """Learns a vector for each token that is frequent enough: of words, if the tokenizer's tokens are words.

    Token by token the vectors then fit a model of the same tokenizer (`embedding_init`).
    """

    name: ClassVar[str] = "word_vectors"
    produces: ClassVar[str] = "vectors"

    @dataclass
    class Inputs:
        tokens: Any = one_or_many_ports("tokens")
        "What to learn from, a node or a list of nodes; usually the train part."
        tokenizer: str = port("tokenizer")
        "What made the tokens; a word is a token of it."

    inputs: Inputs = field(default_factory=Inputs)
    algorithm: Algorithm = Algorithm.word2vec
    "word2vec, fasttext or glove."
    context: Context = Context.skip_gram
    "skip_gram or cbow; glove has neither."
    width: int = 100
    "Of a vector; a model that begins from it has this hidden_size. >= 1."
    window: int | None = None
    "Words on either side that count as near; >= 1, and at most 20 for glove. None: 5, and 15 for glove."
    min_count: int = 5
    "A token seen less often gets no vector; >= 1."
    num_epochs: int | None = None
    "Passes over the corpus, or over the co-occurrences for glove; >= 1. None: 5, and 25 for glove."
    learning_rate: float | None = None
    "At first; > 0. None: 0.025, and 0.05 for glove."
    num_negatives: int = 5
    "Noise words drawn for each word that is predicted; >= 1. Not for glove."
    subsampling: float = 1e-3
    "A word of a larger share of the corpus is passed over now and then; 0: none is. Not for glove."
    ngrams: Ngrams = field(default_factory=Ngrams)
    "Subwords of fasttext."
    glove: GloveRules = field(default_factory=GloveRules)
    "Weights of co-occurrences."
    seed: int = 0
    "Of the first vectors and of all that is drawn; >= 0."
    num_threads: int = 1
    "With more than 1 word2vec and fasttext are faster, and no two runs learn the same vectors; >= 1."

    def problems(self) -> list[Problem]:
        least = {
            "width": 1,
            "min_count": 1,
            "num_negatives": 1,
            "seed": 0,
            "num_threads": 1,
            "subsampling": 0,
        }
        found = [self._too_small(name, getattr(self, name), bound) for name, bound in least.items()]
        found += [self._too_small(name, self.setting(name), 1) for name in ("window", "num_epochs")]
        for name in ("min_n", "num_buckets"):
            found.append(self._too_small(f"ngrams.{name}", getattr(self.ngrams, name), 1))
        found.append(self._too_small("ngrams.max_n", self.ngrams.max_n, self.ngrams.min_n))
        found.append(self._too_small("glove.exponent", self.glove.exponent, 0))
        for name, value in (
            ("learning_rate", self.setting("learning_rate")),
            ("glove.max_count", self.glove.max_count),
        ):
            if value <= 0:
                found.append(Problem(name, f"{name} is {value}", "a number above 0", f"set {name} to one"))
        window = self.setting("window")
        if self.algorithm is Algorithm.glove and window > MAX_WINDOW:
            found.append(
                Problem("window", f"window is {window}", f"at most {MAX_WINDOW} for glove", "narrow it")
            )
        return [each for each in found if each]

    @staticmethod
    def _too_small(name: str, value: float, least: float) -> Problem | None:
        if value >= least:
            return None
        return Problem(name, f"{name} is {value}", f"{least} or more", f"set {name} to {least} or more")

    def setting(self, name: str) -> Any:
        """A setting whose default is the algorithm's."""
        given = getattr(self, name)
        return DEFAULTS[self.algorithm][name] if given is None else given

    def run(self, context: StageContext) -> StageResult:
        require_shards(context.inputs["tokens"], node=context.node, port="tokens")
        shards = shards_of(context.inputs["tokens"])
        tokenizer = Tokenizer.load(context.one("tokenizer").folder.local())
        vocabulary, num_tokens = self._vocabulary(context, shards, tokenizer)
        work: tuple[Any, ...] = (shards, vocabulary, self, context.output)
        if self.algorithm is Algorithm.glove:
            work = (*work, count_matrix(context, shards, vocabulary, window=self.setting("window")))
        learn = {Algorithm.glove: learn_glove}.get(self.algorithm, learn_by_context)
        items = {"vectors": work}
        (result,) = context.map(learn, items, unit="models", num_cpus=self.num_threads).values()
        counters = {"tokens": num_tokens, "learned_tokens": int(vocabulary.counts.sum())}
        counters |= {"words": len(vocabulary.words), "width": self.width} | result["counters"]
        return StageResult(counters, result["metrics"])

    def _vocabulary(
        self, context: StageContext, shards: list[Shard], tokenizer: Tokenizer
    ) -> tuple[Vocabulary, int]:
        """What is learned, and how many tokens there are in all."""
        scratch = context.scratch.child(COUNTS)
        items = {
            numbered(number): (*shard, tokenizer.hash, numbered(number), scratch)
            for number, shard in enumerate(shards)
        }
        context.map(count_tokens, items)
        counts = np.zeros(tokenizer.vocab_size, np.int64)
        for name in items:
            found = load_array(scratch, name)
            counts[: len(found)] += found
        vocabulary = Vocabulary.of(counts, tokenizer, min_count=self.min_count)
        if len(vocabulary.words) < 2:  # noqa: PLR2004 - a word has no neighbour without another
            raise DataError(
                f"of {int(counts.sum()):,} tokens {len(vocabulary.words)} are frequent enough to learn a vector of",
                where=f"stages.{context.node}.min_count",
                allowed="a corpus with at least two tokens that often",
                do="lower min_count, or learn from more text",
            )
        return vocabulary, int(counts.sum())


@dataclass(frozen=True)
class Words:
    """The corpus as word2vec takes it: lists of words; can be gone through again."""

    shards: Sequence[Shard]
    vocabulary: Vocabulary
    longest: int

    def __iter__(self) -> Iterator[list[str]]:
        row_of, words = self.vocabulary.row_of, np.array(self.vocabulary.words, dtype=object)
        for folder, name in self.shards:
            with folder.opening(name) as source:
                for stretch in stretches(source, row_of):
                    for rows in sequences(stretch, longest=self.longest):
                        yield words[rows].tolist()


def count_tokens(
    folder: Folder, name: str, tokenizer_hash: str, number: str, scratch: Folder
) -> dict[str, Any]:
    """How often each id is in one shard."""
    with folder.opening(name) as source:
        counts = count_ids(source, tokenizer_hash=tokenizer_hash)
    save_array(scratch, number, counts)
    return {"tokens": int(counts.sum())}


def learn_by_context(
    shards: list[Shard], vocabulary: Vocabulary, stage: LearnVectors, output: Folder
) -> dict[str, Any]:
    """word2vec or fastText."""
    from model.embeddings.word2vec import LONGEST_SEQUENCE, Sampling, train_fasttext, train_word2vec

    sampling = Sampling(
        width=stage.width,
        window=stage.setting("window"),
        num_epochs=stage.setting("num_epochs"),
        learning_rate=stage.setting("learning_rate"),
        num_negatives=stage.num_negatives,
        subsampling=stage.subsampling,
        is_skip_gram=stage.context is Context.skip_gram,
        seed=stage.seed,
        num_threads=stage.num_threads,
    )
    corpus = Words(shards, vocabulary, LONGEST_SEQUENCE)
    counts = dict(zip(vocabulary.words, vocabulary.counts.tolist(), strict=True))
    subwords = None
    if stage.algorithm is Algorithm.fasttext:
        found = train_fasttext(corpus, counts, sampling=sampling, ngrams=stage.ngrams)
        vectors = found.vectors
        subwords = Subwords(found.words, found.ngrams, stage.ngrams.min_n, stage.ngrams.max_n)
    else:
        vectors = train_word2vec(corpus, counts, sampling=sampling)
    write_artifact(WordVectors(vocabulary.words, vocabulary.counts, vectors, subwords), output)
    return {"counters": {}, "metrics": {}}


def learn_glove(
    shards: list[Shard], vocabulary: Vocabulary, stage: LearnVectors, output: Folder, matrix: Matrix
) -> dict[str, Any]:
    """GloVe on the co-occurrences, a part in memory at a time."""
    import torch

    from model.embeddings.glove import Glove

    del shards
    torch.set_num_threads(stage.num_threads)
    glove = Glove(
        len(vocabulary.words),
        width=stage.width,
        rules=stage.glove,
        learning_rate=stage.setting("learning_rate"),
        seed=stage.seed,
    )
    parts = matrix.entries()
    losses = [glove.train_epoch(parts) for _ in range(stage.setting("num_epochs"))]
    write_artifact(WordVectors(vocabulary.words, vocabulary.counts, glove.vectors), output)
    return {"counters": {"pairs": matrix.num_pairs}, "metrics": {"train/loss": losses[-1]}}


def write_artifact(vectors: WordVectors, output: Folder) -> None:
    """Put the files of word vectors into a folder of the store."""
    with tempfile.TemporaryDirectory() as temporary:
        vectors.save(Path(temporary))
        output.upload_all(Path(temporary))
