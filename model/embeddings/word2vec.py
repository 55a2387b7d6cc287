"""word2vec and fastText, as gensim has them.

Mikolov et al. 2013, arXiv:1301.3781 (skip-gram, CBOW) and arXiv:1310.4546 (negative sampling, subsampling); Bojanowski
et al. 2017, arXiv:1607.04606 (fastText: a word's vector is the mean of its own and its n-grams'). Defaults: gensim's.

With one thread the same corpus, vocabulary and seed give the same vectors on the same kind of processor: gensim hashes
nothing, draws every row from the seed, and takes the vocabulary in the order given. With more, threads write into the
same rows without locks (Recht et al. 2011, arXiv:1106.5730), and no two runs agree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.embeddings.rules import Ngrams

Matrix = NDArray[np.float32]
Corpus = Iterable[list[str]]

LONGEST_SEQUENCE = 10_000
"Words; of a longer sequence gensim reads no more."


@dataclass(frozen=True)
class Sampling:
    """What the two algorithms share."""

    width: int = 100
    window: int = 5
    num_epochs: int = 5
    learning_rate: float = 0.025
    final_learning_rate: float = 0.0001
    num_negatives: int = 5
    negative_exponent: float = 0.75
    subsampling: float = 1e-3
    is_skip_gram: bool = True
    seed: int = 0
    num_threads: int = 1


@dataclass(frozen=True)
class FastTextVectors:
    """What fastText learns."""

    vectors: Matrix
    "[num_words, width]: of a word and its n-grams together."
    words: Matrix
    "[num_words, width]: of the word alone."
    ngrams: Matrix
    "[num_buckets, width]."


def train_word2vec(corpus: Corpus, vocabulary: Mapping[str, int], *, sampling: Sampling) -> Matrix:
    """[num_words, width]. Words outside of the vocabulary are passed over, as if they were not there."""
    from gensim.models import Word2Vec

    model = Word2Vec(**_options(sampling))
    _train(model, corpus, vocabulary, sampling.num_epochs)
    return np.ascontiguousarray(model.wv.vectors)


def train_fasttext(
    corpus: Corpus, vocabulary: Mapping[str, int], *, sampling: Sampling, ngrams: Ngrams
) -> FastTextVectors:
    """As `train_word2vec`, with subwords."""
    from gensim.models import FastText

    n = {"min_n": ngrams.min_n, "max_n": ngrams.max_n, "bucket": ngrams.num_buckets}
    model = FastText(**_options(sampling), **n)
    _train(model, corpus, vocabulary, sampling.num_epochs)
    found = (model.wv.vectors, model.wv.vectors_vocab, model.wv.vectors_ngrams)
    return FastTextVectors(*map(np.ascontiguousarray, found))


def _options(sampling: Sampling) -> dict[str, Any]:
    return {
        "vector_size": sampling.width,
        "window": sampling.window,
        "alpha": sampling.learning_rate,
        "min_alpha": sampling.final_learning_rate,
        "negative": sampling.num_negatives,
        "ns_exponent": sampling.negative_exponent,
        "sample": sampling.subsampling,
        "sg": int(sampling.is_skip_gram),
        "seed": sampling.seed,
        "workers": sampling.num_threads,
        "epochs": sampling.num_epochs,
        "min_count": 1,  # the vocabulary is what the caller gives, in its order
        "sorted_vocab": 0,
    }


def _train(model: Any, corpus: Corpus, vocabulary: Mapping[str, int], num_epochs: int) -> None:
    model.build_vocab_from_freq(dict(vocabulary))
    model.train(corpus_iterable=corpus, total_words=sum(vocabulary.values()), epochs=num_epochs)
