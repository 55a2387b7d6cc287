"""Byte-level BPE as tiktoken runs it: the same ids as `tokenizers`, several times as fast on one thread.

tiktoken merges any two neighbours that make a token, lowest id first; `tokenizers` merges the pairs of its list, first
of the list first. They agree on every text if the ids of the merged tokens ascend along the list and each token's own
bytes merge into it: were x and y left beside each other where xy is a token that the list makes of another pair, then
the same merges on xy alone would stop there too, and the token would not be reached. `disagreement` checks just that.
"""

import json
import re
from itertools import pairwise
from typing import Any

import tiktoken
import tokenizers

GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)

O200K_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NEVER_TEXT = "<|\x00 no text \x00|>"

# tiktoken's regex engine overflows its stack (and panics) within a run of some 500,000 white space characters
LONGEST_SPACE_RUN = 200_000
_LONG_SPACES = re.compile(rf"(?<!\s)\s{{{LONGEST_SPACE_RUN}}}")  # tried once a run, so in linear time

# Letters, contractions, digits, code, white space, other scripts, marks, emoji, controls, a control token's text.
SAMPLE = (
    "It's they'LL don't WE'VE 3.14159 1234567 0x7f\n\n"
    'def f(x: int=1) -> str:\n\t\treturn f"{x!r}"  \n    # ok\r\n'
    "if (a&&b) { c[i]->d += 1e-9; }  //   end\n\n\n\n   <|endoftext|> ____ ====   \u2026"
    "\u00e9t\u00e9 cafe\u0301 \u4e2d\u6587\u5b57\u7b26 \u65e5\u672c\u8a9e\u306e "
    "\u0627\u0644\u0639 \u0939\u093f\u0928\u094d \U0001f600\U0001f468\u200d\U0001f469 "
    "\u2028\u3000\u00a0 \u0661\u0662 \u216b \u00bd x\u00b2 \x00\x1b\x7f\ufffd  "
)


def byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's table), inverted."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + k): byte for k, byte in enumerate(others)}


def token_bytes(spec: dict[str, Any]) -> dict[int, bytes] | None:
    """The bytes of each id of a tokenizer.json, or None where it is not a byte-level vocabulary."""
    if (spec.get("decoder") or {}).get("type") != "ByteLevel":
        return None
    alphabet = byte_alphabet()
    added = {token["id"]: token["content"].encode() for token in spec["added_tokens"]}
    vocab = {id_: token for token, id_ in spec["model"]["vocab"].items() if id_ not in added}
    return {id_: bytes(alphabet[char] for char in token) for id_, token in vocab.items()} | added


def obstacle(spec: dict[str, Any]) -> str:
    """Why tiktoken cannot stand in for this tokenizer.json; empty where it can."""
    model, added = spec["model"], spec["added_tokens"]
    reasons = {
        "its model is not BPE": model.get("type") != "BPE",
        "it normalizes text": spec.get("normalizer") is not None,
        "its vocabulary is not of bytes": token_bytes(spec) is None or model.get("byte_fallback"),
        "it splits text by other rules": split_pattern(spec) is None,
        "it has added tokens that are ordinary text": any(not token["special"] for token in added),
        "its merges drop out at random": model.get("dropout"),
        "it takes whole words past its merges": model.get("ignore_merges"),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def disagreement(spec: dict[str, Any], model: tokenizers.models.BPE) -> str:
    """Why tiktoken could merge otherwise than `model`, the model of this spec; empty where it cannot."""
    vocab, merges = spec["model"]["vocab"], spec["model"]["merges"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    ids = [vocab["".join(pair)] for pair in pairs]
    if any(one >= other for one, other in pairwise(ids)):
        return "its ids are not in the order of its merges"
    added = {token["id"] for token in spec["added_tokens"]}
    for token, id_ in vocab.items():
        if id_ not in added and [found.id for found in model.tokenize(token)] != [id_]:
            return f"its merges do not lead to its token {token!r}"
    return ""


def split_pattern(spec: dict[str, Any]) -> str | None:
    """The regular expression by which a tokenizer.json splits text, where that is all that it does."""
    pre = spec.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    if steps[-1].get("type") != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    if len(steps) == 1 and steps[0]["use_regex"]:
        return GPT2_PATTERN
    return _only_split(steps[0]) if len(steps) == 2 and not steps[1]["use_regex"] else None  # noqa: PLR2004 - a pair


def _only_split(step: dict[str, Any]) -> str | None:
    if step.get("type") != "Split" or step["behavior"] != "Isolated" or step["invert"]:
        return None
    pattern: str | None = step["pattern"].get("Regex")
    return pattern


def build_encoding(spec: dict[str, Any]) -> tiktoken.Encoding:
    """The tiktoken encoder of a tokenizer.json that has no `obstacle`.

    It is told of one special token, which it is never allowed to find: with none at all tiktoken looks for the
    empty text at every byte, and that takes as long as half of the encoding.
    """
    added = {token["id"]: token["content"] for token in spec["added_tokens"]}
    ranks = {token: id_ for id_, token in (token_bytes(spec) or {}).items() if id_ not in added}
    unseen = {NEVER_TEXT: 1 + max(*ranks.values(), *added)}
    return tiktoken.Encoding(
        "byte-level", pat_str=split_pattern(spec), mergeable_ranks=ranks, special_tokens=unseen
    )


def overflows(text: str) -> bool:
    """Whether a text holds a run of white space that tiktoken could not go through."""
    return len(text) >= LONGEST_SPACE_RUN and _LONG_SPACES.search(text) is not None


def canonical(spec: dict[str, Any]) -> bytes:
    """What decides a tokenizer's ids, as bytes: vocabulary, merges, special tokens, normalizing and splitting."""
    parts = {name: spec.get(name) for name in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
    return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
