"""Vocabularies that are not of bytes: WordPiece, unigram pieces, whole words; the same texts give the same vocabulary.

Control tokens are no part of a vocabulary: they get the ids after it, so that no text ever spells one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from enum import Enum

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from data.unigram import learn_pieces

UNKNOWN_WORD = "<unk>"
UNKNOWN_WORDPIECE = "[UNK]"
CONTINUED = "##"
SPACE_MARK = "\u2581"
NUM_BYTES = 256
NEVER_CHOSEN = -1e9  # the score of a piece that stands for a byte: its text is written with other pieces
ASCII_PRINTABLE = frozenset(map(chr, range(0x21, 0x7F)))
# A line end or tab; the spaces before a word but the last; a word, or marks, with the space before it.
UNIGRAM_PATTERN = r"[\r\n\t]| +(?= [^ \r\n\t])| ?\w+| ?[^\w \r\n\t]+| +"


class Normalization(Enum):
    """What becomes of a text before it is split."""

    standard = "standard"  # byte_bpe and word: none; wordpiece: bert; unigram: nfkc
    none = "none"
    nfc = "nfc"
    nfkc = "nfkc"  # as SentencePiece: one form for what looks alike
    bert = "bert"  # as uncased BERT: lower case, no accents, no control characters, a space around each CJK character


def normalizer_of(normalization: Normalization) -> normalizers.Normalizer | None:
    made = {
        Normalization.nfc: normalizers.NFC,
        Normalization.nfkc: normalizers.NFKC,
        Normalization.bert: normalizers.BertNormalizer,
    }.get(normalization)
    return made() if made else None


def learn_words(
    texts: Iterable[str], *, size: int, min_frequency: int, normalization: Normalization
) -> tokenizers.Tokenizer:
    """Whole words and runs of punctuation, the most frequent `size`; anything else is `<unk>`, id 0."""
    tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN_WORD))
    _set_up(tokenizer, normalization, pre_tokenizers.Whitespace())
    trainer = trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=min_frequency, special_tokens=[UNKNOWN_WORD], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _without_control_tokens(tokenizer)


def learn_wordpieces(
    texts: Iterable[str], *, size: int, min_frequency: int, normalization: Normalization, coverage: float
) -> tokenizers.Tokenizer:
    """WordPiece as BERT has it (Devlin et al. 2019, arXiv:1810.04805, section 3): `[UNK]` is id 0.

    `texts` is gone through twice. The trainer numbers what it meets in the order of its hash table, and breaks ties by
    number; so all that it will meet is given to it beforehand, as if it were a control token.
    """
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token=UNKNOWN_WORDPIECE))
    _set_up(tokenizer, normalization, pre_tokenizers.BertPreTokenizer())
    alphabet = _alphabet(texts, tokenizer.normalizer, coverage=coverage, most=(size - 1) // 2)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=[UNKNOWN_WORDPIECE, *(CONTINUED + each for each in alphabet)],
        initial_alphabet=alphabet,
        continuing_subword_prefix=CONTINUED,
        show_progress=False,
    )
    known = frozenset(alphabet)
    tokenizer.train_from_iterator(_of_alphabet(texts, tokenizer.normalizer, known), trainer)
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUED, cleanup=False)
    return _without_control_tokens(tokenizer)


def learn_unigram(
    texts: Iterable[str], *, size: int, normalization: Normalization, coverage: float
) -> tokenizers.Tokenizer:
    """Pieces as SentencePiece has them, a space marked by U+2581; a character that is no piece becomes its bytes.

    Line ends and tabs are pieces of their own, runs of spaces may be one. `texts` is gone through twice.
    """
    normalizer = normalizer_of(normalization)
    room = size - NUM_BYTES - 1
    alphabet = _alphabet(texts, normalizer, coverage=coverage, most=room)
    found: Counter[str] = Counter()
    words_of = re.compile(UNIGRAM_PATTERN)
    for text in _of_alphabet(texts, normalizer, frozenset(alphabet)):
        found.update(words_of.findall(text))
    counts: Counter[str] = Counter(ASCII_PRINTABLE)  # always pieces, so that no text needs the byte `<0x41>`
    for word, count in found.items():
        counts[word.replace(" ", SPACE_MARK)] += count
    pieces = learn_pieces(counts, size=room)
    reserved = [UNKNOWN_WORD, *(f"<0x{byte:02X}>" for byte in range(NUM_BYTES))]
    vocabulary = [(piece, NEVER_CHOSEN) for piece in reserved] + pieces
    tokenizer = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    words = pre_tokenizers.Split(Regex(UNIGRAM_PATTERN), "isolated")
    marks = pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="never", split=False)
    _set_up(tokenizer, normalization, pre_tokenizers.Sequence([words, marks]))
    spaces = decoders.Replace(SPACE_MARK, " ")
    tokenizer.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def with_control_tokens(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> tokenizers.Tokenizer:
    """Gives these the ids after the vocabulary, in their order."""
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in texts])
    return tokenizer


def _set_up(
    tokenizer: tokenizers.Tokenizer,
    normalization: Normalization,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> None:
    normalizer = normalizer_of(normalization)
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer


def _without_control_tokens(trained: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same model and steps without what the trainer was given as a control token."""
    tokenizer = tokenizers.Tokenizer(trained.model)
    if trained.normalizer:
        tokenizer.normalizer = trained.normalizer
    tokenizer.pre_tokenizer = trained.pre_tokenizer
    if trained.decoder:
        tokenizer.decoder = trained.decoder
    return tokenizer


def _alphabet(
    texts: Iterable[str], normalizer: normalizers.Normalizer | None, *, coverage: float, most: int
) -> list[str]:
    """The fewest characters that make up this fraction of all that are not white space, sorted; at most `most`."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text) if normalizer else text)
    ranked = sorted(
        ((character, count) for character, count in counts.items() if not character.isspace()),
        key=lambda item: (-item[1], item[0]),
    )
    wanted, held, kept = coverage * sum(count for _, count in ranked), 0, []
    for character, count in ranked[:most]:
        if held >= wanted:
            break
        kept.append(character)
        held += count
    return sorted(kept)


def _of_alphabet(
    texts: Iterable[str], normalizer: normalizers.Normalizer | None, known: AbstractSet[str]
) -> Iterator[str]:
    """The texts, normalized, with a space for each character outside of the alphabet."""
    for text in texts:
        normalized = normalizer.normalize_str(text) if normalizer else text
        unknown = {each for each in set(normalized) - known if not each.isspace()}
        yield normalized.translate(dict.fromkeys(map(ord, unknown), " ")) if unknown else normalized
