"""Tokens of every kind of tokenizer find the vectors of the words that they are."""

import numpy as np
import pytest
from gensim.models import FastText

from data.tokenizer_training import TokenizerKind, TokenizerRules, train_tokenizer
from data.vectors.matching import match_tokens
from data.vectors.word_vectors import Subwords, WordVectors

TEXT = "the mill by the river turns the wheel of the mill; the river turns mills and wheels. "
WORDS = ["the", "mill", "river", "turns", "wheel", "s"]
VECTORS = WordVectors(WORDS, np.ones(6, np.int64), np.arange(12, dtype=np.float32).reshape(6, 2))


def learned(kind: TokenizerKind):
    sizes = {TokenizerKind.word: 20, TokenizerKind.wordpiece: 100, TokenizerKind.unigram: 400}
    return train_tokenizer([TEXT] * 20, rules=TokenizerRules(kind=kind, vocab_size=sizes.get(kind, 320)))


@pytest.mark.parametrize("kind", list(TokenizerKind), ids=lambda kind: kind.name)
def test_a_token_gets_the_vector_of_the_word_that_it_is(kind):
    tokenizer = learned(kind)
    matched = match_tokens(tokenizer, VECTORS)
    found = dict(zip(matched.ids.tolist(), matched.vectors.tolist(), strict=True))
    for word in ("the", "mill", "river"):
        (id_,) = tokenizer.encode(f"a {word}").tolist()[-1:]
        assert found[id_] == VECTORS.vectors[WORDS.index(word)].tolist()
    assert sum(matched.counts.values()) == tokenizer.vocab_size
    assert matched.counts["same"] + matched.counts["as_word"] == len(found)
    assert tokenizer.eos_id not in found


def test_a_piece_within_a_word_is_no_word():
    tokenizer = learned(TokenizerKind.wordpiece)
    pieces = [id_ for id_, token in enumerate(tokenizer.tokens()) if token == "##s"]
    assert pieces
    assert pieces[0] not in match_tokens(tokenizer, VECTORS).ids


def test_subwords_give_every_token_that_is_text_a_vector():
    model = FastText([TEXT.split()] * 3, vector_size=4, min_count=1, bucket=40, epochs=1, workers=1)
    subwords = Subwords(model.wv.vectors_vocab, model.wv.vectors_ngrams, 3, 6)
    words = list(model.wv.index_to_key)
    vectors = WordVectors(words, np.ones(len(words), np.int64), model.wv.vectors, subwords)
    tokenizer = learned(TokenizerKind.byte_bpe)
    matched = match_tokens(tokenizer, vectors)
    found = dict(zip(matched.ids.tolist(), matched.vectors, strict=True))
    unseen = [id_ for id_, token in enumerate(tokenizer.tokens()) if token == "and"]
    for id_ in unseen or [tokenizer.encode("q").tolist()[0]]:
        np.testing.assert_allclose(
            found[id_], model.wv[tokenizer.decode([id_]).strip()], rtol=1e-5, atol=1e-7
        )
    assert matched.counts["by_subwords"] > 50
    assert matched.counts["none"] > 0  # spaces, and bytes that are no text


def test_vectors_of_the_same_tokenizer_match_by_spelling():
    tokenizer = learned(TokenizerKind.byte_bpe)
    tokens = tokenizer.tokens()
    vectors = WordVectors(tokens, np.ones(len(tokens), np.int64), np.ones((len(tokens), 3), np.float32))
    counts = match_tokens(tokenizer, vectors).counts
    assert counts["same"] + counts["control"] == tokenizer.vocab_size
