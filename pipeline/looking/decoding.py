"""Tokens as text again, by the tokenizer that made them."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from data.errors import DataError
from data.tokenizer import Tokenizer
from pipeline.dag.store import Artifact, Store
from pipeline.looking.lineage import origins


@dataclass(frozen=True)
class Decoder:
    """Decodes rows of tokens."""

    tokenizer: Tokenizer
    name: str
    "The artifact of the tokenizer."

    def decoded(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with its `text`, and where it has a loss mask with `segments`: texts, each target or not."""
        ids = row["input_ids"]
        row = row | {"text": self.tokenizer.decode(ids), "num_tokens": len(ids)}
        if "loss_mask" not in row:
            return row
        segments = [
            {"target": bool(mask), "text": self.tokenizer.decode([id_ for id_, _ in run])}
            for mask, run in groupby(zip(ids, row["loss_mask"], strict=True), key=lambda pair: pair[1])
        ]
        return row | {"segments": segments, "num_targets": sum(row["loss_mask"])}

    def pieces(self, ids: list[int]) -> list[str]:
        """The text of each token by itself."""
        return [self.tokenizer.decode([id_]) for id_ in ids]


def decoder_of(artifact: Artifact, store: Store, *, tokenizer_hash: str) -> Decoder | None:
    """The decoder of an artifact of tokens, through its lineage; None where its tokenizer is not in the store.

    Raises:
        DataError: the tokenizer that the lineage names is not the one that the shards name.
    """
    origin = next((each for each in origins(artifact) if each.port == "tokenizer"), None)
    found = store.find(origin.stage, origin.key) if origin else None
    if found is None or origin is None:
        return None
    tokenizer = Tokenizer.load(found.folder.local())
    if tokenizer.hash != tokenizer_hash:
        raise DataError(
            f"the tokens were made by tokenizer {tokenizer_hash}, and their lineage names {tokenizer.hash}",
            where=artifact.folder.url,
            allowed="tokens beside the tokenizer that made them",
            do="delete the artifact, so that it is built again",
        )
    return Decoder(tokenizer, f"{origin.stage}/{origin.key[:12]}")
