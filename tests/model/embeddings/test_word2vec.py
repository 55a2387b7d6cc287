"""Training through gensim: what it learns is what bare gensim learns, every time and whatever Python's hash seed."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from gensim.models import FastText, Word2Vec

from model.embeddings.rules import Ngrams
from model.embeddings.word2vec import Sampling, train_fasttext, train_word2vec

WORDS = [
    f"{begin}{end}" for begin in ("mill", "wheel", "dam", "gate") for end in ("", "s", "ed", "ing", "er")
]
CHANCE = np.random.default_rng(0)
CORPUS = [CHANCE.choice(WORDS, 30).tolist() for _ in range(60)]
VOCABULARY = dict(sorted(Counter(chain(*CORPUS)).items(), key=lambda item: (-item[1], item[0])))
BARE = {"vector_size": 16, "epochs": 2, "min_count": 1, "workers": 1, "seed": 3}


@pytest.mark.parametrize("is_skip_gram", [True, False])
def test_word2vec_is_bare_gensims(is_skip_gram):
    sampling = Sampling(width=16, num_epochs=2, seed=3, is_skip_gram=is_skip_gram)
    found = train_word2vec(CORPUS, VOCABULARY, sampling=sampling)
    theirs = Word2Vec(sg=int(is_skip_gram), sorted_vocab=0, **BARE)
    theirs.build_vocab_from_freq(dict(VOCABULARY), corpus_count=len(CORPUS))
    theirs.train(CORPUS, total_examples=len(CORPUS), epochs=2)
    assert theirs.wv.index_to_key == [*VOCABULARY]
    np.testing.assert_array_equal(found, theirs.wv.vectors)


def test_fasttext_is_bare_gensims_with_its_ngrams():
    ngrams = Ngrams(min_n=2, max_n=3, num_buckets=100)
    found = train_fasttext(
        CORPUS, VOCABULARY, sampling=Sampling(width=16, num_epochs=2, seed=3), ngrams=ngrams
    )
    theirs = FastText(sg=1, sorted_vocab=0, min_n=2, max_n=3, bucket=100, **BARE)
    theirs.build_vocab_from_freq(dict(VOCABULARY), corpus_count=len(CORPUS))
    theirs.train(CORPUS, total_examples=len(CORPUS), epochs=2)
    np.testing.assert_array_equal(found.vectors, theirs.wv.vectors)
    np.testing.assert_array_equal(found.words, theirs.wv.vectors_vocab)
    np.testing.assert_array_equal(found.ngrams, theirs.wv.vectors_ngrams)


def test_words_outside_of_the_vocabulary_are_passed_over():
    known = {word: count for word, count in VOCABULARY.items() if word.startswith(("mill", "dam"))}
    left = [[word for word in words if word in known] for words in CORPUS]
    sampling = Sampling(width=8, num_epochs=1)
    both = [train_word2vec(corpus, known, sampling=sampling) for corpus in (CORPUS, left)]
    np.testing.assert_array_equal(*both)


def test_the_hash_seed_of_python_changes_nothing():
    code = (
        "import hashlib; from model.embeddings.word2vec import *; from model.embeddings.rules import *\n"
        f"corpus, words = {CORPUS[:20]!r}, {VOCABULARY!r}\n"
        "found = train_fasttext(corpus, words, sampling=Sampling(width=8), ngrams=Ngrams(num_buckets=50))\n"
        "print(hashlib.sha256(found.vectors.tobytes()).hexdigest())"
    )

    def digest(hash_seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert len(digest("1").strip()) == len(hashlib.sha256().hexdigest())
    assert digest("1") == digest("2")
