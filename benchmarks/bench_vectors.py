"""Word vectors: the stage `word_vectors` against bare gensim on the same words, speed and quality.

The corpus is the standard library's source as words and marks. Ours reads token shards, counts, learns and writes its
artifact, in this one process; gensim is called as its manual has it, on a file with a document a line (`LineSentence`),
counts included. Both with the same settings and as many threads. Quality is on the corpus' own words: analogies
between a word and its forms (-s, -ed, -ing), and the rank correlation of cosines with those of the words' positive
pointwise mutual informations (Levy and Goldberg 2014, Q15-1016, section 2), over random pairs of frequent words.
Required of each: 0.9 of gensim's speed, and 0.9 of its score.
"""

import io
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from gensim.models import FastText, Word2Vec
from gensim.models.word2vec import LineSentence
from measure import Limit, Result, arguments, compare, publish

from data.documents import Document, DocumentWriter, document_batches
from data.files import STDLIB, list_files
from data.shards import TokenFormat, TokenWriter, read_tokens
from data.tokenize import tokenize_documents
from data.tokenizer import Tokenizer
from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer
from data.vectors.cooccurrence import Pairs, count_pairs
from data.vectors.corpus import Vocabulary, count_ids, stretches
from data.vectors.nearest import Nearest
from data.vectors.scores import Analogy, Pair, score_analogies, score_pairs
from data.vectors.word_vectors import WordVectors
from model.embeddings.rules import Ngrams
from pipeline.dag.folder import open_folder
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Input, StageContext
from pipeline.dag.store import Manifest, ManifestFile
from pipeline.stages.word_vectors import Algorithm, LearnVectors

LEAST = 0.9
MIN_COUNT, WIDTH, BUCKETS = 5, 100, 200_000
FREQUENT, NUM_PAIRS, MOST_FORMS, WINDOW = 1500, 5000, 40, 5


class Silence:
    def send(self, event: dict[str, Any]) -> None:
        """No one listens."""


@dataclass(frozen=True)
class Corpus:
    """The same words as token shards and as lines."""

    folder: Path
    tokenizer: Tokenizer
    num_words: int

    @property
    def shard(self) -> Path:
        return self.folder / "tokens" / "tokens-00000.arrow"


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--megabytes", type=float, default=2, help="of text (default 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        corpus = write(Path(temporary), options.megabytes)
        questions = Questions(corpus)
        results = [
            measured(corpus, questions, algorithm, num_threads, options.repeats)
            for algorithm, num_threads in (
                (Algorithm.word2vec, 1),
                (Algorithm.word2vec, 2),
                (Algorithm.fasttext, 1),
            )
        ]
    return 0 if publish(results, json_file=options.json) else 1


def measured(
    corpus: Corpus, questions: "Questions", algorithm: Algorithm, num_threads: int, repeats: int
) -> Result:
    found: dict[str, WordVectors] = {}
    learners = {"headrace": ours, "gensim": theirs}
    contenders: dict[str, Callable[[], float]] = {
        name: partial(_timed, found, name, partial(learn, corpus, algorithm, num_threads), corpus.num_words)
        for name, learn in learners.items()
    }
    title = f"{algorithm.name}, {num_threads} thread{'s' if num_threads > 1 else ''}"
    result = compare(title, contenders, unit="words", repeats=repeats, least_ratios={"gensim": LEAST})
    scores = {name: questions.scores(vectors) for name, vectors in found.items()}
    result.facts.update(
        {f"{kind} {name}": round(s, 4) for name, each in scores.items() for kind, s in each.items()}
    )
    for kind, score in scores["headrace"].items():
        result.limits.append(Limit(f"{kind} over gensim's", score / scores["gensim"][kind], least=LEAST))
    return result


def write(folder: Path, megabytes: float) -> Corpus:
    documents = [
        Document(f"{number}", text, "stdlib", number) for number, text in enumerate(texts(megabytes * 1e6))
    ]
    rules = TokenizerRules(kind=TokenizerKind.word, vocab_size=30_000)
    tokenizer = train_tokenizer((each.text for each in documents), rules=rules)
    tokenizer.save(folder / "tokenizer")
    tokens, words = tokenizer.tokens(), 0
    corpus = Corpus(folder, tokenizer, 0)
    corpus.shard.parent.mkdir()
    form = TokenFormat(tokenizer.hash, tokenizer.vocab_size, tokenizer.eos_id)
    with TokenWriter(corpus.shard, token_format=form) as writer:
        for row in tokenize_documents(_batches(documents), tokenizer=tokenizer):
            writer.write(row)
    vocabulary = Vocabulary.of(
        count_ids(corpus.shard, tokenizer_hash=tokenizer.hash), tokenizer, min_count=MIN_COUNT
    )
    row_of = vocabulary.row_of
    with (folder / "lines.txt").open("w") as sink:
        for row in read_tokens(corpus.shard):
            line = [tokens[id_] for id_ in row.input_ids.tolist() if row_of[id_] >= 0]
            words += len(line)
            sink.write(" ".join(line) + "\n")
    return Corpus(folder, tokenizer, words)


def texts(num_bytes: float) -> Iterator[str]:
    files = [Path(file.path) for file in list_files([STDLIB])]
    random.Random(0).shuffle(files)
    for file in files:
        text = file.read_text(errors="ignore")
        yield text
        num_bytes -= len(text)
        if num_bytes <= 0:
            return


def _batches(documents: list[Document]) -> list[Any]:
    place = io.BytesIO()
    with DocumentWriter(place) as writer:
        for each in documents:
            writer.write(each)
    return list(document_batches(io.BytesIO(place.getvalue())))


def ours(corpus: Corpus, algorithm: Algorithm, num_threads: int) -> WordVectors:
    """The stage as the runner runs it, its tasks one after the other."""
    target = corpus.folder / "ours"
    shutil.rmtree(target, ignore_errors=True)
    file = ManifestFile(corpus.shard.name, corpus.shard.stat().st_size, "")
    manifest = Manifest("tokenize", "", "tokens", "tokens", {}, {}, [file], {}, {}, {})
    inputs = {
        name: [Input(name, "", kind, open_folder(str(corpus.folder / name)), manifest)]
        for name, kind in (("tokens", "tokens"), ("tokenizer", "tokenizer"))
    }
    folders = [open_folder(str(target / name)) for name in ("output", "scratch")]
    context = StageContext("vectors", "", inputs, *folders, Resources(), Silence(), in_turn)
    ngrams = Ngrams(num_buckets=BUCKETS)
    LearnVectors(algorithm=algorithm, width=WIDTH, num_threads=num_threads, ngrams=ngrams).run(context)
    return WordVectors.load(target / "output")


def theirs(corpus: Corpus, algorithm: Algorithm, num_threads: int) -> WordVectors:
    kind, more = (FastText, {"bucket": BUCKETS}) if algorithm is Algorithm.fasttext else (Word2Vec, {})
    sentences = LineSentence(str(corpus.folder / "lines.txt"))
    model = kind(sentences, vector_size=WIDTH, sg=1, min_count=MIN_COUNT, workers=num_threads, seed=0, **more)
    model.wv.save(str(corpus.folder / "theirs"))
    words = list(model.wv.index_to_key)
    return WordVectors(words, np.zeros(len(words), np.int64), model.wv.vectors)


def in_turn(function: Any, items: Any, **_: Any) -> dict[str, dict[str, Any]]:
    return {name: function(*item) for name, item in items.items()}


class Questions:
    """Analogies and pairs made of the corpus' own frequent words."""

    def __init__(self, corpus: Corpus) -> None:
        counts = count_ids(corpus.shard, tokenizer_hash=corpus.tokenizer.hash)
        vocabulary = Vocabulary.of(counts, corpus.tokenizer, min_count=MIN_COUNT)
        words, known = vocabulary.words[: 2 * FREQUENT], set(vocabulary.words[: 2 * FREQUENT])
        self.analogies = []
        for ending in ("s", "ed", "ing"):
            forms = [each for each in words if len(each) > 3 and each.isalpha() and each + ending in known]
            for one, other in combinations(forms[:MOST_FORMS], 2):
                self.analogies.append(Analogy(ending, (one, one + ending, other, other + ending)))
        similar = mutual_informations(corpus, vocabulary)
        chance = np.random.default_rng(0)
        self.pairs = [
            Pair(vocabulary.words[a], vocabulary.words[b], float(similar[a, b]))
            for a, b in chance.integers(len(similar), size=(NUM_PAIRS, 2)).tolist()
            if a != b
        ]

    def scores(self, vectors: WordVectors) -> dict[str, float]:
        nearest = Nearest(vectors)
        found = {
            "analogies": score_analogies(nearest, self.analogies).accuracy,
            "similarity": score_pairs(nearest, self.pairs).spearman,
        }
        return {name: score or 0.0 for name, score in found.items()}


def mutual_informations(corpus: Corpus, vocabulary: Vocabulary) -> Any:
    """Cosines [FREQUENT, FREQUENT] of the words' rows of positive pointwise mutual information."""
    num_words = len(vocabulary.words)
    found = count_pairs(stretches(corpus.shard, vocabulary.row_of), num_words=num_words, window=WINDOW)
    pairs = Pairs.summed(found)
    first, second = pairs.keys // num_words, pairs.keys % num_words
    frequent = second < FREQUENT
    counts = np.zeros((min(FREQUENT, num_words),) * 2)
    counts[first[frequent], second[frequent]] = pairs.units[frequent]
    counts[second[frequent], first[frequent]] = pairs.units[frequent]
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = np.nan_to_num(np.maximum(np.log(counts / expected), 0), posinf=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return rows @ rows.T


def _timed(
    found: dict[str, WordVectors], name: str, learn: Callable[[], WordVectors], num_words: int
) -> float:
    found[name] = learn()
    return float(num_words)


if __name__ == "__main__":
    sys.exit(main())
