"""Training of tokenizers; the same texts give the same bytes, whatever the number of threads."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from data.bpe import CL100K_PATTERN, GPT2_PATTERN, O200K_PATTERN
from data.errors import Problem
from data.tokenizer import MASK_TOKENS, Tokenizer
from data.vocabularies import (
    NUM_BYTES,
    UNKNOWN_WORD,
    UNKNOWN_WORDPIECE,
    Normalization,
    learn_unigram,
    learn_wordpieces,
    learn_words,
    with_control_tokens,
)

EOS_TOKEN = "<|endoftext|>"  # noqa: S105 - text, id 0
PAD_TOKEN = "<|pad|>"  # noqa: S105 - text, id 1


class TokenizerKind(Enum):
    """What a vocabulary is made of."""

    byte_bpe = "byte_bpe"  # bytes, and what their merges make: any text comes back whole
    wordpiece = "wordpiece"  # beginnings and continuations of words (BERT)
    unigram = "unigram"  # likeliest pieces (SentencePiece); what is none becomes its bytes
    word = "word"  # whole words and runs of punctuation; the rest is <unk>


class SplitPattern(Enum):
    """How text falls into pieces, within which BPE merges."""

    gpt2 = "gpt2"  # words with the space before them; all digits of a number together
    cl100k = "cl100k"  # GPT-4's: digits by threes, line ends and indentation in pieces of their own
    o200k = "o200k"  # GPT-4o's: also between lower and upper case


PATTERNS = {
    SplitPattern.gpt2: GPT2_PATTERN,
    SplitPattern.cl100k: CL100K_PATTERN,
    SplitPattern.o200k: O200K_PATTERN,
}
UNKNOWN = {
    TokenizerKind.wordpiece: UNKNOWN_WORDPIECE,
    TokenizerKind.unigram: UNKNOWN_WORD,
    TokenizerKind.word: UNKNOWN_WORD,
}
STANDARD = {TokenizerKind.wordpiece: Normalization.bert, TokenizerKind.unigram: Normalization.nfkc}


@dataclass
class TokenizerRules:
    """What a trained tokenizer is."""

    kind: TokenizerKind = TokenizerKind.byte_bpe
    "byte_bpe suits generation, wordpiece BERT, unigram T5 and many languages, word models of words."
    vocab_size: int = 32768
    "Ids at most, control tokens among them, and of byte_bpe and unigram the 256 bytes; a small corpus may give fewer."
    min_frequency: int = 2
    "A pair of tokens is merged, and a word is taken, only if it occurs this often; >= 1. Unigram has no use for it."
    pattern: SplitPattern = SplitPattern.cl100k
    "Of byte_bpe: cl100k suits source code and prose, gpt2 is the older rule, o200k suits many languages."
    normalization: Normalization = Normalization.standard
    "What becomes of a text first; standard: as each kind has it. byte_bpe takes text as it is."
    character_coverage: float = 0.9995
    "Of wordpiece and unigram: the fraction of characters that the alphabet makes up, in (0, 1]; the rest is unknown."
    special_tokens: list[str] = field(default_factory=list)
    "Control tokens besides <|endoftext|> and <|pad|>, in the order of their ids; distinct, not empty."
    num_sentinels: int = field(default=0, metadata={"added_later": True})
    "Of the control tokens <extra_id_0>, <extra_id_1>, …, which stand for spans that span_corruption leaves out; >= 0."
    chat_template: str = ""
    "Jinja text that makes a conversation one text, as transformers takes it; empty: none. It changes no id."

    @property
    def control_tokens(self) -> list[str]:
        return [EOS_TOKEN, PAD_TOKEN, *self.more_tokens]

    @property
    def more_tokens(self) -> list[str]:
        """The control tokens besides those that every tokenizer has."""
        return [*self.special_tokens, *(f"<extra_id_{number}>" for number in range(self.num_sentinels))]

    def problems(self) -> list[Problem]:
        tokens = self.control_tokens
        has_bytes = self.kind in (TokenizerKind.byte_bpe, TokenizerKind.unigram)
        least = len(tokens) + (NUM_BYTES if has_bytes else 0) + LEAST_LEARNED[self.kind]
        plain = (Normalization.standard, Normalization.none)
        wrong = {
            "vocab_size": not least <= self.vocab_size <= 1 << 32,
            "min_frequency": self.min_frequency < 1,
            "num_sentinels": self.num_sentinels < 0,
            "special_tokens": len(set(tokens)) < len(tokens) or "" in tokens or self.unknown in tokens,
            "normalization": self.kind is TokenizerKind.byte_bpe and self.normalization not in plain,
            "character_coverage": not 0 < self.character_coverage <= 1,
        }
        words = {
            "vocab_size": (f"{self.vocab_size} ids", f"{least} to 2**32"),
            "min_frequency": (f"{self.min_frequency}", "1 or more"),
            "num_sentinels": (f"{self.num_sentinels}", "0 or more"),
            "special_tokens": ("a control token is empty or given twice", "distinct texts"),
            "normalization": (f"{self.normalization.name} with byte_bpe", "standard or none"),
            "character_coverage": (f"{self.character_coverage}", "a fraction above 0, at most 1"),
        }
        return [Problem(name, *words[name]) for name, is_wrong in wrong.items() if is_wrong]

    @property
    def unknown(self) -> str | None:
        """The text of the token for what the vocabulary has not; None where there is nothing that it has not."""
        return UNKNOWN.get(self.kind)


LEAST_LEARNED = {
    TokenizerKind.byte_bpe: 0,
    TokenizerKind.wordpiece: 3,  # [UNK], and a character that begins or continues a word
    TokenizerKind.unigram: 96,  # <unk>, and ASCII without its controls
    TokenizerKind.word: 2,
}


def train_tokenizer(texts: Iterable[str], *, rules: TokenizerRules) -> Tokenizer:
    """A tokenizer of at most `rules.vocab_size` ids; memory grows with the number of distinct words only.

    WordPiece and unigram go through `texts` twice: give them what can be gone through again.
    """
    assert not rules.problems(), rules.problems()
    if rules.kind is TokenizerKind.byte_bpe:
        trained = _learn_merges(texts, rules)
    else:
        trained = with_control_tokens(_learn_vocabulary(texts, rules), rules.control_tokens)
    return Tokenizer(trained.to_str(), config=_config(rules))


def _learn_vocabulary(texts: Iterable[str], rules: TokenizerRules) -> tokenizers.Tokenizer:
    size = rules.vocab_size - len(rules.control_tokens)
    standard = rules.normalization is Normalization.standard
    form = STANDARD.get(rules.kind, Normalization.none) if standard else rules.normalization
    least, coverage = rules.min_frequency, rules.character_coverage
    if rules.kind is TokenizerKind.word:
        return learn_words(texts, size=size, min_frequency=least, normalization=form)
    if rules.kind is TokenizerKind.wordpiece:
        return learn_wordpieces(texts, size=size, min_frequency=least, normalization=form, coverage=coverage)
    return learn_unigram(texts, size=size, normalization=form, coverage=coverage)


def _learn_merges(texts: Iterable[str], rules: TokenizerRules) -> tokenizers.Tokenizer:
    tokenizer = split_into_bytes(models.BPE(), rules.pattern)
    trainer = trainers.BpeTrainer(
        vocab_size=rules.vocab_size,
        min_frequency=rules.min_frequency,
        special_tokens=rules.control_tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def split_into_bytes(model: models.BPE, pattern: SplitPattern) -> tokenizers.Tokenizer:
    """A byte-level tokenizer of this model: text is split by the pattern, then taken as bytes."""
    tokenizer = tokenizers.Tokenizer(model)
    split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def standard_config() -> dict[str, object]:
    """tokenizer_config.json as transformers 5 reads it, without the names of its tokens."""
    return {
        "tokenizer_class": "PreTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
    }


def _config(rules: TokenizerRules) -> dict[str, object]:
    config = standard_config()
    config |= {"bos_token": EOS_TOKEN, "eos_token": EOS_TOKEN, "pad_token": PAD_TOKEN}
    if rules.more_tokens:
        config["additional_special_tokens"] = rules.more_tokens
    if mask := next((text for text in rules.special_tokens if text in MASK_TOKENS), None):
        config["mask_token"] = mask  # what `transformers` fills
    if rules.unknown:
        config["unk_token"] = rules.unknown
    if rules.chat_template:
        config["chat_template"] = rules.chat_template
    return config
