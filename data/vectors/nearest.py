"""Which words lie nearest: to a word, and where an analogy points (Mikolov et al. 2013, arXiv:1301.3781, section 4)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.vectors.word_vectors import Matrix, WordVectors

QUESTIONS_AT_ONCE = 128


class Neighbour(NamedTuple):
    word: str
    cosine: float


class Nearest:
    """Looks among the words that have vectors, by the cosine. Equally near words come in their order."""

    def __init__(self, vectors: WordVectors) -> None:
        self.vectors = vectors
        self._units = unit(vectors.vectors)

    def to_word(self, word: str, *, num: int = 10) -> list[Neighbour]:
        """The nearest to a word that is not it; nothing where it has no vector."""
        vector = self.vectors.vector(word)
        return [] if vector is None else self._nearest(unit(vector[None])[0], (word,), num)

    def to_analogy(self, first: str, second: str, third: str, *, num: int = 10) -> list[Neighbour]:
        """`first` is to `second` as `third` is to these, none of the three among them; nothing where one is unknown.

        3CosAdd (Levy and Goldberg 2014, W14-1618, equation 1): second - first + third, each of length 1.
        """
        given = [self.vectors.vector(word) for word in (first, second, third)]
        if any(each is None for each in given):
            return []
        a, b, c = unit(np.stack([each for each in given if each is not None]))
        return self._nearest(unit((b - a + c)[None])[0], (first, second, third), num)

    def answers(self, questions: NDArray[np.int64]) -> NDArray[np.int64]:
        """[num]: for each row of three words' rows [num, 3], the row of the word that 3CosAdd gives."""
        found = [np.empty(0, np.int64)]
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            a, b, c = questions[start : start + QUESTIONS_AT_ONCE].T
            scores = (self._units[b] - self._units[a] + self._units[c]) @ self._units.T  # [num, num_words]
            for each in (a, b, c):
                scores[np.arange(len(each)), each] = -np.inf
            found.append(scores.argmax(axis=1))
        return np.concatenate(found)

    def cosines(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """Of each pair of words; None where one has no vector."""
        return [self._cosine(*pair) for pair in pairs]

    def _cosine(self, first: str, second: str) -> float | None:
        one, other = self.vectors.vector(first), self.vectors.vector(second)
        if one is None or other is None:
            return None
        return float(np.dot(*unit(np.stack([one, other]))))

    def _nearest(self, direction: Matrix, without: Sequence[str], num: int) -> list[Neighbour]:
        cosines = self._units @ direction
        order = np.argsort(-cosines, kind="stable")[: num + len(without)].tolist()
        found = [Neighbour(self.vectors.words[row], float(cosines[row])) for row in order]
        return [each for each in found if each.word not in without][:num]


def unit(vectors: Matrix) -> Matrix:
    """[num, width]: each of length 1; one without length stays as it is."""
    lengths: Matrix = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    lengths[lengths == 0] = 1
    scaled: Matrix = vectors / lengths
    return scaled
