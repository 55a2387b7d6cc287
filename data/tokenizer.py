"""A tokenizer: a folder that `transformers.AutoTokenizer` loads, encoded through tiktoken where ids are equal."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from data import bpe
from data.errors import DataError
from data.pieces import PIECE_CHARACTERS, can_cut, cut_from, pieces

Ids = NDArray[np.uint32]

SPEC_FILE = "tokenizer.json"
LONG_CHARACTERS = 2 * PIECE_CHARACTERS
NO_IDS: Ids = np.empty(0, dtype=np.uint32)
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
MASK_TOKENS = ("[MASK]", "<mask>", "<|mask|>")
"Taken for the mask token where a tokenizer does not name it."


class WordEdges(NamedTuple):
    """By id: whether a token may go on with the word before it, and whether a word may go on behind it. Bool [V]."""

    goes_on: NDArray[np.bool_]
    may_go_on: NDArray[np.bool_]

    def starts(self, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Bool [B, T]: where a word begins, in tokens [B, T]; at the first of each row in any case."""
        found = ~self.goes_on[tokens]
        found[:, 1:] |= ~self.may_go_on[tokens[:, :-1]]
        found[:, 0] = True
        return found


class Tokenizer:
    """Text to ids and back. The text of a control token inside of a document is ordinary text, never the token.

    Attributes:
        encoder: "tiktoken" or "tokenizers", whichever makes the ids; they are the same.
        encoder_note: why it is not tiktoken; empty where it is.
        can_cut: whether a long text is encoded in pieces; the ids are the same.
        hash: 32 hex digits over all that decides the ids.
        vocab_size: one more than the largest id.
        eos_id: the id that ends a document.
        pad_id: the id that fills rows; eos_id where the tokenizer has no token for it.
        unk_id: the id of what is not in the vocabulary; None where there is nothing that is not.
        mask_id: the id that stands for a masked token; None where there is none.
        sentinel_ids: of <extra_id_0>, <extra_id_1>, …, which stand for spans that are left out; as many as follow on.
        chat_template: Jinja text that makes a conversation one text; empty where there is none.
        special_ids: id of each control token by its text.
    """

    def __init__(self, spec: str, *, config: Mapping[str, Any], encoder: str = "") -> None:
        """Args: `spec` the text of tokenizer.json; `config` what tokenizer_config.json says.

        `encoder` is what another of the same files has found out, so that it is not found out again.
        """
        self._spec_text, self._config = spec, dict(config)
        self._spec: dict[str, Any] = json.loads(spec)
        self.hash = hashlib.blake2b(bpe.canonical(self._spec), digest_size=16).hexdigest()
        self.special_ids = {token["content"]: int(token["id"]) for token in self._spec["added_tokens"]}
        self.vocab_size = 1 + max(self._reference.get_vocab(with_added_tokens=True).values())
        self.eos_id = self._control_id("eos_token")
        self.pad_id = self._control_id("pad_token") if self._config.get("pad_token") else self.eos_id
        self.unk_id = self._unknown_id()
        self.mask_id = self._mask_id()
        self.sentinel_ids = self._sentinel_ids()
        self.chat_template = str(self._config.get("chat_template") or "")
        self.can_cut = can_cut(self._spec)
        self.encoder, self.encoder_note = encoder, ""
        if not encoder:
            self.encoder_note = bpe.obstacle(self._spec) or bpe.disagreement(
                self._spec, self._reference.model
            )
            self.encoder = "tokenizers" if self.encoder_note else "tiktoken"
            self.verify([bpe.SAMPLE])

    @classmethod
    def load(cls, folder: Path, *, encoder: str = "") -> "Tokenizer":
        """The tokenizer of a folder with tokenizer.json and tokenizer_config.json; ours or any other's."""
        try:
            files = {name: (folder / name).read_bytes() for name in (SPEC_FILE, CONFIG_FILE)}
            return cls.from_files(files, encoder=encoder)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"this folder holds no tokenizer that can be read: {error}",
                where=str(folder),
                allowed=f"a folder with {SPEC_FILE} and {CONFIG_FILE}, which names its eos_token",
                do="name the artifact of a train_tokenizer stage, or a Hugging Face folder with a fast tokenizer",
            ) from error

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, encoder: str = "") -> "Tokenizer":
        """The tokenizer out of its files' contents by name."""
        return cls(files[SPEC_FILE].decode(), config=json.loads(files[CONFIG_FILE]), encoder=encoder)

    def files(self) -> dict[str, bytes]:
        """What a folder of this tokenizer holds, by name; the same tokenizer gives the same bytes."""
        named = {name: text for name, text in self._config.items() if name.endswith("_token") and text}
        return {
            SPEC_FILE: self._spec_text.encode(),
            CONFIG_FILE: _json(self._config),
            SPECIAL_FILE: _json(named),  # transformers before 5 reads it
        }

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            (folder / name).write_bytes(content)

    def __reduce__(self) -> tuple[object, ...]:
        return Tokenizer.from_files, (self.files(),)

    def encode(self, text: str) -> Ids:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, [num_tokens]; nothing is added before or after. One thread where tiktoken runs."""
        if not self.can_cut or all(len(text) <= LONG_CHARACTERS for text in texts):
            return self._encode(texts)
        return [np.concatenate([*map(self._encode_one, pieces(text)), NO_IDS]) for text in texts]

    def encode_bytes(self, content: memoryview) -> Ids:
        """The ids of a long UTF-8 text, of which a piece at a time is decoded; `can_cut` must hold."""
        return self.encode_range(content, 0, len(content))[0]

    def encode_range(self, content: memoryview, start: int, stop: int) -> tuple[Ids, int]:
        """The ids, and the number, of the bytes from the first cut at or after `start` to that at or after `stop`.

        So ranges that join give ids that join; `can_cut` must hold.
        """
        assert self.can_cut, "a text of this tokenizer is encoded whole"
        begin, end = cut_from(content, start), cut_from(content, stop)
        parts, place = [NO_IDS], begin
        while place < end:
            cut = min(end, cut_from(content, place + LONG_CHARACTERS))
            parts.append(self._encode_one(bytes(content[place:cut]).decode()))
            place = cut
        return np.concatenate(parts), end - begin

    def tokens(self) -> list[str]:
        """[vocab_size]: each id's token as the vocabulary spells it; empty where an id has none."""
        spelled = [""] * self.vocab_size
        for token, id_ in self._reference.get_vocab(with_added_tokens=True).items():
            spelled[id_] = token
        return spelled

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The text; bytes that are not UTF-8 (ids cut within a character) become U+FFFD."""
        if self._bytes is None:
            return str(self._reference.decode([int(id_) for id_ in ids], skip_special_tokens=False))
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int] | NDArray[np.integer]) -> bytes:
        """The bytes of the text, exact for any ids: what a streaming reader joins. Byte-level tokenizers only."""
        assert self._bytes is not None, "not a byte-level tokenizer"
        return b"".join(self._bytes.get(int(id_), b"") for id_ in ids)

    def verify(self, texts: Sequence[str]) -> bool:
        """Whether ids on these texts are the reference's; where not, the reference encodes whole texts from now on."""
        for text, ids, expected in zip(
            texts, self.encode_batch(texts), self._encode_reference(texts), strict=True
        ):
            if not np.array_equal(ids, expected):
                self.encoder_note = f"{self.encoder} gives other ids for {text[:60]!r}"
                self.encoder, self.can_cut = "tokenizers", False
                return False
        return True

    def spelled_control_tokens(self) -> list[str]:
        """The control tokens whose own text, met in a document, becomes their id; none of those trained here."""
        return [text for text, id_ in self.special_ids.items() if id_ in self.encode(text).tolist()]

    def _encode(self, texts: Sequence[str]) -> list[Ids]:
        if self.encoder == "tokenizers":
            return self._encode_reference(texts)
        encode = self._fast.encode_to_numpy
        return [
            self._encode_fast(text)
            if len(text) >= bpe.LONGEST_SPACE_RUN
            else encode(text, disallowed_special=())
            for text in texts
        ]

    def _encode_one(self, text: str) -> Ids:
        return self._encode([text])[0]

    def _encode_fast(self, text: str) -> Ids:
        if bpe.overflows(text):
            return self._encode_reference([text])[0]
        return self._fast.encode_to_numpy(text, disallowed_special=())  # type: ignore[no-any-return]

    def _encode_reference(self, texts: Sequence[str]) -> list[Ids]:
        encodings = self._reference.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.uint32) for encoding in encodings]

    @cached_property
    def _fast(self) -> Any:
        return bpe.build_encoding(self._spec)

    @cached_property
    def _bytes(self) -> dict[int, bytes] | None:
        return bpe.token_bytes(self._spec)

    @cached_property
    def _reference(self) -> tokenizers.Tokenizer:
        reference = tokenizers.Tokenizer.from_str(self._spec_text)
        reference.encode_special_tokens = True  # their text is ordinary text
        reference.no_padding()
        reference.no_truncation()
        return reference

    def _unknown_id(self) -> int | None:
        model = self._spec["model"]
        if model.get("unk_token") is None:
            return None if model.get("unk_id") is None else int(model["unk_id"])  # a number in unigram
        id_: int | None = self._reference.token_to_id(model["unk_token"])
        return id_

    def word_edges(self) -> WordEdges:
        """Where words begin among tokens, as far as single tokens tell; one entry for each id."""
        model, num_ids = self._spec["model"], self.vocab_size
        texts = [self._reference.id_to_token(id_) or "" for id_ in range(num_ids)]
        if model["type"] == "WordPiece":
            goes_on = np.array([text.startswith(model["continuing_subword_prefix"]) for text in texts])
            return WordEdges(goes_on, np.ones(num_ids, dtype=bool))
        if model["type"] == "WordLevel":
            return WordEdges(np.zeros(num_ids, dtype=bool), np.ones(num_ids, dtype=bool))
        spelt = [text.replace("▁", " ") for text in texts]
        if self._bytes is not None:  # a byte beyond ASCII is part of a letter as often as not
            spelt = [self._bytes.get(id_, b"").decode("latin-1") for id_ in range(num_ids)]
            return WordEdges(
                np.array([_is_of_word(text[:1]) or text[:1] > "\x7f" for text in spelt]),
                np.array([_is_of_word(text[-1:]) or text[-1:] > "\x7f" for text in spelt]),
            )
        return WordEdges(
            np.array([_is_of_word(text[:1]) for text in spelt]),
            np.array([_is_of_word(text[-1:]) for text in spelt]),
        )

    def _mask_id(self) -> int | None:
        if self._config.get("mask_token"):
            return self._control_id("mask_token")
        return next((self.special_ids[text] for text in MASK_TOKENS if text in self.special_ids), None)

    def _sentinel_ids(self) -> list[int]:
        found = (self.special_ids.get(f"<extra_id_{number}>") for number in range(len(self.special_ids)))
        return list(takewhile(lambda id_: id_ is not None, found))  # type: ignore[arg-type]

    def _control_id(self, name: str) -> int:
        token = self._config[name]
        return self.special_ids[token["content"] if isinstance(token, dict) else token]


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
