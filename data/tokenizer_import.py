"""A tokenizer that others made: a Hugging Face folder, a tokenizer.json, GPT-2's two files, or tiktoken's ranks."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, models

from data import bpe
from data.errors import DataError, Problem
from data.tokenizer import CONFIG_FILE, SPEC_FILE, Tokenizer
from data.tokenizer_training import SplitPattern, split_into_bytes, standard_config

TEMPLATE_FILE = "chat_template.jinja"
VOCAB_FILES = ("vocab.json", "encoder.json")
MERGES_FILES = ("merges.txt", "vocab.bpe")
RANKS_SUFFIX = ".tiktoken"
TOKEN_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
PATTERN_OF_NAME = {
    "gpt2": SplitPattern.gpt2,
    "r50k": SplitPattern.gpt2,
    "p50k": SplitPattern.gpt2,
    "cl100k": SplitPattern.cl100k,
    "o200k": SplitPattern.o200k,
}
ALLOWED = (
    f"a folder with {SPEC_FILE}, or with {' or '.join(VOCAB_FILES)} and {' or '.join(MERGES_FILES)}; "
    f"a {SPEC_FILE}; a *{RANKS_SUFFIX} file of ranks"
)


@dataclass
class ImportRules:
    """What the files of a tokenizer leave open."""

    eos_token: str = ""
    "Text of the token that ends a document; empty: as the files say. One that the vocabulary has not is added."
    pad_token: str = ""
    "Text of the token that fills rows; empty: as the files say, or the one that ends a document."
    special_tokens: list[str] = field(default_factory=list)
    "Further control tokens; those that the vocabulary has not get the ids after it, in this order."
    pattern: SplitPattern | None = None
    "Of ranks, and of GPT-2's two files: how text is split, which they do not say. null: by the file's name, or gpt2."
    chat_template: str = ""
    "Jinja text that makes a conversation one text; empty: as the files say."

    def problems(self) -> list[Problem]:
        if "" in self.special_tokens or len(set(self.special_tokens)) < len(self.special_tokens):
            return [Problem("special_tokens", "a control token is empty or given twice", "distinct texts")]
        return []


def tokenizer_files(path: Path) -> list[Path]:
    """The files that a tokenizer at `path` consists of; `DataError` where there is none."""
    if path.is_file() and (path.name == SPEC_FILE or path.suffix == RANKS_SUFFIX):
        return [path]
    if (path / SPEC_FILE).is_file():
        return _there(path, SPEC_FILE, CONFIG_FILE, TEMPLATE_FILE)
    vocabulary, merges = _there(path, *VOCAB_FILES)[:1], _there(path, *MERGES_FILES)[:1]
    if vocabulary and merges:
        return vocabulary + merges + _there(path, CONFIG_FILE, TEMPLATE_FILE)
    if path.is_dir() and len(ranks := sorted(path.glob(f"*{RANKS_SUFFIX}"))) == 1:
        return ranks
    raise DataError(
        "there is no tokenizer here that can be read",
        where=str(path),
        allowed=ALLOWED,
        do="correct the path; a slow tokenizer becomes a fast one with transformers: save_pretrained",
    )


def read_tokenizer(files: Mapping[str, bytes], *, rules: ImportRules, where: str) -> Tokenizer:
    """The tokenizer that these files make, by name. It adds nothing to a text, whatever its files say of that.

    Raises `DataError` where they cannot be read, or where nobody says which token ends a document.
    """
    try:
        reference = _reference(files, rules, where)
        config = json.loads(files.get(CONFIG_FILE, b"{}"))
    except (ValueError, KeyError, binascii.Error) as error:
        raise DataError(
            f"these files make no tokenizer: {error}",
            where=where,
            allowed=ALLOWED,
            do="check that the files belong together and are whole",
        ) from error
    named = {name: _text(config[name]) for name in TOKEN_NAMES if config.get(name)}
    named |= {"eos_token": rules.eos_token} if rules.eos_token else {}
    named |= {"pad_token": rules.pad_token} if rules.pad_token else {}
    if "eos_token" not in named:
        named["eos_token"] = _only_end(reference, where)
    reference.post_processor = None
    wanted = [text for name, text in named.items() if name != "unk_token"] + rules.special_tokens
    reference.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in wanted])
    template = rules.chat_template or files.get(TEMPLATE_FILE, b"").decode() or config.get("chat_template")
    made = standard_config() | named | ({"chat_template": template} if template else {})
    if further := [text for text in rules.special_tokens if text not in named.values()]:
        made["additional_special_tokens"] = further
    return Tokenizer(reference.to_str(), config=made)


def merges_of(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The two tokens that make each longer token, in the order of the ranks (as tiktoken merges, lowest rank first).

    A token that no two others make, by the merges before it, has none.
    """
    found = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 1:
            rank_of = [ranks.get(one + other, rank) for one, other in pairwise(parts)]
            best = min(range(len(rank_of)), key=rank_of.__getitem__)
            if rank_of[best] >= rank:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:  # noqa: PLR2004 - a pair
            found.append((parts[0], parts[1]))
    return found


def _reference(files: Mapping[str, bytes], rules: ImportRules, where: str) -> tokenizers.Tokenizer:
    if SPEC_FILE in files:
        try:
            return tokenizers.Tokenizer.from_str(files[SPEC_FILE].decode())
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(str(error)) from error
    if name := next((name for name in files if name.endswith(RANKS_SUFFIX)), ""):
        model = _of_ranks(files[name])
        return split_into_bytes(model, rules.pattern or _pattern_of(name, where))
    vocabulary = next(json.loads(files[name]) for name in VOCAB_FILES if name in files)
    lines = next(files[name].decode().splitlines() for name in MERGES_FILES if name in files)
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#version")]
    merges = [(one, other) for one, _, other in pairs]
    return split_into_bytes(models.BPE(vocabulary, merges), rules.pattern or SplitPattern.gpt2)


def _of_ranks(content: bytes) -> models.BPE:
    ranks = {
        base64.b64decode(token, validate=True): int(rank)
        for token, rank in (line.split() for line in content.splitlines() if line)
    }
    character = {byte: character for character, byte in bpe.byte_alphabet().items()}

    def spelled(token: bytes) -> str:
        return "".join(character[byte] for byte in token)

    vocabulary = {spelled(token): rank for token, rank in ranks.items()}
    return models.BPE(vocabulary, [(spelled(one), spelled(other)) for one, other in merges_of(ranks)])


def _pattern_of(name: str, where: str) -> SplitPattern:
    for known, pattern in PATTERN_OF_NAME.items():
        if name.startswith(known):
            return pattern
    raise DataError(
        f"nothing says how {name} splits text",
        where=where,
        allowed=f"pattern: {', '.join(each.name for each in SplitPattern)}",
        do="set rules.pattern to the one that these ranks were learned with",
    )


def _only_end(reference: tokenizers.Tokenizer, where: str) -> str:
    """GPT-2's end of text, where the vocabulary has it."""
    if reference.token_to_id("<|endoftext|>") is not None:
        return "<|endoftext|>"
    raise DataError(
        "nothing says which token ends a document",
        where=where,
        allowed="an eos_token in tokenizer_config.json, or rules.eos_token",
        do="set rules.eos_token, as in </s>; for BERT [SEP]",
    )


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _there(folder: Path, *names: str) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]
