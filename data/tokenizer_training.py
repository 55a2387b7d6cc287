"""Training of a byte-level BPE tokenizer; the same texts give the same bytes, whatever the number of threads."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from data.bpe import CL100K_PATTERN, GPT2_PATTERN
from data.errors import Problem
from data.tokenizer import Tokenizer

EOS_TOKEN = "<|endoftext|>"  # noqa: S105 - text, id 0
PAD_TOKEN = "<|pad|>"  # noqa: S105 - text, id 1
NUM_BYTES = 256


class SplitPattern(Enum):
    """How text falls into pieces, within which BPE merges."""

    gpt2 = "gpt2"  # words with the space before them; all digits of a number together
    cl100k = "cl100k"  # GPT-4's: digits by threes, line ends and indentation in pieces of their own


PATTERNS = {SplitPattern.gpt2: GPT2_PATTERN, SplitPattern.cl100k: CL100K_PATTERN}


@dataclass
class TokenizerRules:
    """What a trained tokenizer is."""

    vocab_size: int = 32768
    "Ids at most, control tokens and the 256 bytes among them; a small corpus may give fewer. 258 to 2**32."
    min_frequency: int = 2
    "A pair of tokens is merged only if it occurs this often; >= 1."
    pattern: SplitPattern = SplitPattern.cl100k
    "cl100k suits source code and prose, gpt2 is the older rule."
    special_tokens: list[str] = field(default_factory=list)
    "Control tokens besides <|endoftext|> and <|pad|>, in the order of their ids (from 2); distinct, not empty."

    def problems(self) -> list[Problem]:
        tokens = [EOS_TOKEN, PAD_TOKEN, *self.special_tokens]
        least = NUM_BYTES + len(tokens)
        found = []
        if not least <= self.vocab_size <= 1 << 32:
            found.append(Problem("vocab_size", f"{self.vocab_size} ids", f"{least} to 2**32"))
        if self.min_frequency < 1:
            found.append(Problem("min_frequency", f"{self.min_frequency}", "1 or more"))
        if len(set(tokens)) < len(tokens) or "" in tokens:
            found.append(
                Problem("special_tokens", "a control token is empty or given twice", "distinct texts")
            )
        return found


def train_tokenizer(texts: Iterable[str], *, rules: TokenizerRules) -> Tokenizer:
    """A tokenizer of at most `rules.vocab_size` ids; memory grows with the number of distinct words only."""
    assert not rules.problems(), rules.problems()
    tokenizer = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERNS[rules.pattern]), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=rules.vocab_size,
        min_frequency=rules.min_frequency,
        special_tokens=[EOS_TOKEN, PAD_TOKEN, *rules.special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Tokenizer(tokenizer.to_str(), config=_config(rules))


def _config(rules: TokenizerRules) -> dict[str, object]:
    """tokenizer_config.json as transformers 5 reads it."""
    config: dict[str, object] = {
        "tokenizer_class": "PreTokenizerFast",
        "bos_token": EOS_TOKEN,
        "eos_token": EOS_TOKEN,
        "pad_token": PAD_TOKEN,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
    }
    if rules.special_tokens:
        config["additional_special_tokens"] = rules.special_tokens
    return config
