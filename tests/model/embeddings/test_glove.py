"""GloVe against the published algorithm, written down entry by entry in plain Python."""

import math

import numpy as np
import pytest
import torch

from model.embeddings.glove import Entries, Glove
from model.embeddings.rules import GloveRules

NUM_WORDS, WIDTH = 12, 5


def small_matrix() -> Entries:
    """A symmetric X with about half of its entries, small counts and large."""
    chance = np.random.default_rng(0)
    i, j = np.nonzero(np.triu(chance.random((NUM_WORDS, NUM_WORDS)) < 0.5))
    return Entries.both_halves(i, j, np.exp(chance.normal(2, 2, len(i))))


class Published:
    """The loop of the published program on one thread: one entry, one step."""

    def __init__(self, words, contexts, *, max_count, exponent, learning_rate):
        self.words, self.contexts = words.tolist(), contexts.tolist()
        self.word_squares = [[1.0] * (WIDTH + 1) for _ in range(NUM_WORDS)]
        self.context_squares = [[1.0] * (WIDTH + 1) for _ in range(NUM_WORDS)]
        self.max_count, self.exponent, self.learning_rate = max_count, exponent, learning_rate

    def step(self, i: int, j: int, count: float) -> float:
        w, c = self.words[i], self.contexts[j]
        w_squares, c_squares = self.word_squares[i], self.context_squares[j]
        error = sum(w[k] * c[k] for k in range(WIDTH)) + w[WIDTH] + c[WIDTH] - math.log(count)
        weight = 1.0 if count > self.max_count else (count / self.max_count) ** self.exponent
        loss = 0.5 * weight * error * error
        gradient = self.learning_rate * weight * error
        for k in range(WIDTH):
            for_w, for_c = gradient * c[k], gradient * w[k]
            w[k] -= for_w / math.sqrt(w_squares[k])
            c[k] -= for_c / math.sqrt(c_squares[k])
            w_squares[k] += for_w * for_w
            c_squares[k] += for_c * for_c
        for values, squares in ((w, w_squares), (c, c_squares)):
            values[WIDTH] -= gradient / math.sqrt(squares[WIDTH])
            squares[WIDTH] += gradient * gradient
        return loss


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_every_loss_is_that_of_the_published_algorithm(dtype, tolerance):
    """In epochs of which each has another order, and over two parts."""
    entries = small_matrix()
    half = len(entries.rows) // 2
    arrays = (entries.rows, entries.columns, entries.counts)
    parts = [Entries(*(each[place] for each in arrays)) for place in (slice(half), slice(half, None))]
    glove = Glove(NUM_WORDS, width=WIDTH, rules=GloveRules(max_count=20.0), dtype=dtype, seed=1)
    reference = Published(glove.words, glove.contexts, max_count=20.0, exponent=0.75, learning_rate=0.05)
    for _ in range(6):
        for part in parts:
            for batch in glove.batches(part):
                one_by_one = zip(
                    batch.rows.tolist(), batch.columns.tolist(), batch.counts.tolist(), strict=True
                )
                expected = sum(reference.step(*each) for each in one_by_one)
                assert glove.step(batch) == pytest.approx(expected, rel=tolerance, abs=tolerance)
    np.testing.assert_allclose(glove.words, reference.words, rtol=tolerance * 10, atol=tolerance)
    np.testing.assert_allclose(glove.contexts, reference.contexts, rtol=tolerance * 10, atol=tolerance)
    summed = np.array(reference.words)[:, :-1] + np.array(reference.contexts)[:, :-1]
    np.testing.assert_allclose(glove.vectors, summed, rtol=1e-4, atol=1e-5)


def pairs_of(entries):
    return zip(entries.rows.tolist(), entries.columns.tolist(), strict=True)


def test_an_epoch_takes_every_entry_once_in_batches_that_share_no_word():
    entries = small_matrix()
    glove = Glove(NUM_WORDS, width=WIDTH, rules=GloveRules())
    orders = []
    for _ in range(2):
        batches = list(glove.batches(entries))
        for batch in batches:
            assert len(set(batch.rows.tolist())) == len(set(batch.columns.tolist())) == len(batch.rows)
        orders.append([(i, j) for batch in batches for i, j in pairs_of(batch)])
    wanted = set(pairs_of(entries))
    assert [len(each) for each in orders] == [len(wanted)] * 2
    assert set(orders[0]) == set(orders[1]) == wanted
    assert orders[0] != orders[1]


def test_parameters_begin_as_published():
    glove = Glove(2000, width=9, rules=GloveRules(), seed=2)
    for values in (glove.words, glove.contexts):
        assert values.abs().max() <= 0.05
        assert values.std().item() == pytest.approx(0.1 / 12**0.5, rel=0.02)


def test_the_loss_falls_and_the_same_seed_learns_the_same():
    entries = small_matrix()
    runs = []
    for _ in range(2):
        glove = Glove(NUM_WORDS, width=WIDTH, rules=GloveRules(), seed=5)
        runs.append(([glove.train_epoch([lambda: entries]) for _ in range(25)], glove.vectors))
    losses = runs[0][0]
    assert losses[-1] < losses[0] / 4
    assert losses == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
