"""Learning a unigram vocabulary: ours against the trainer of `tokenizers`, in time and in bytes a token.

Both have the same normalization and the same words of the same text (Python's library), and are asked for the same
number of pieces; ours counts 256 bytes more. Bytes a token are those of text that neither has seen. Required: no fewer
bytes a token, in at most three times the time (the other sums on all cores, and in another order each time: whether
two of its trainings agree is shown).
"""

import hashlib
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path

import tokenizers
from measure import Limit, arguments, compare, publish
from tokenizers import models, trainers

from data.vocabularies import NUM_BYTES, UNKNOWN_WORD, Normalization, learn_unigram

LEAST_SPEED = 1 / 3


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--megabytes", type=float, default=2, help="of text to learn from (default 2)")
    parser.add_argument("--pieces", type=int, default=8000, help="default 8000")
    options = parser.parse_args()
    texts = library()
    seen, unseen = split(texts, options.megabytes * 1e6)
    made: dict[str, list[tokenizers.Tokenizer]] = {"headrace": [], "tokenizers": []}
    runs = {"headrace": ours, "tokenizers": theirs}
    contenders = {
        name: partial(_kept, made[name], partial(run, seen, options.pieces)) for name, run in runs.items()
    }
    result = compare(
        "unigram pieces", contenders, repeats=options.repeats, least_ratios={"tokenizers": LEAST_SPEED}
    )
    density = {name: bytes_a_token(found[0], unseen) for name, found in made.items()}
    result.limits.append(Limit("bytes a token", density["headrace"], least=density["tokenizers"]))
    for name, found in made.items():
        different = len({hashlib.sha256(each.to_str().encode()).digest() for each in found})
        result.facts[name] = (
            f"{density[name]:.3f} bytes a token, {found[0].get_vocab_size()} ids, "
            f"{different} vocabularies in {len(found)} trainings"
        )
    result.limits.append(
        Limit("vocabularies that ours are", len({each.to_str() for each in made["headrace"]}), most=1)
    )
    return 0 if publish([result], json_file=options.json) else 1


def ours(texts: list[str], num_pieces: int) -> tokenizers.Tokenizer:
    return learn_unigram(texts, size=num_pieces + NUM_BYTES, normalization=Normalization.nfkc, coverage=1.0)


def theirs(texts: list[str], num_pieces: int) -> tokenizers.Tokenizer:
    """With our steps before and after the model; what it has no piece for becomes one unknown token."""
    steps = learn_unigram(["a"], size=num_pieces, normalization=Normalization.nfkc, coverage=1.0)
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = steps.normalizer, steps.pre_tokenizer
    trainer = trainers.UnigramTrainer(
        vocab_size=num_pieces, special_tokens=[UNKNOWN_WORD], unk_token=UNKNOWN_WORD, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def bytes_a_token(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> float:
    num_tokens = sum(len(each.ids) for each in tokenizer.encode_batch(texts))
    return sum(len(text.encode()) for text in texts) / num_tokens


def library() -> list[str]:
    found = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    return [path.read_text(errors="ignore") for path in found if "site-packages" not in path.parts]


def split(texts: list[str], num_bytes: float) -> tuple[list[str], list[str]]:
    """Of every four texts three to learn from, until they are enough, and of the others a quarter as much."""
    return _first([text for k, text in enumerate(texts) if k % 4], num_bytes), _first(
        texts[::4], num_bytes / 4
    )


def _first(texts: list[str], num_bytes: float) -> list[str]:
    held = 0
    for number, text in enumerate(texts):
        held += len(text)
        if held >= num_bytes:
            return texts[: number + 1]
    return texts


def _kept(made: list[tokenizers.Tokenizer], run: Callable[[], tokenizers.Tokenizer]) -> None:
    made.append(run())


if __name__ == "__main__":
    sys.exit(main())
