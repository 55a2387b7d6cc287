"""Texts that share a row, or lie beside padding, as rows of their own: what a recurrent layer reads in one go.

Letters: B batch, T time, N texts, L length of the longest, M tokens that are no padding, C hidden.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.encoder_decoder import positions_in_documents


@dataclass(frozen=True)
class Segments:
    """Where each token of [B, T] goes in [N, L]; padding goes nowhere."""

    is_real: Tensor
    "Bool [B, T]."
    text: Tensor
    "int64 [M], which text each real token is of."
    place: Tensor
    "int64 [M], its place there."
    lengths: Tensor
    "int64 [N], tokens of each text, at least one."

    def apart(self, x: Tensor) -> Tensor:
        """From x [B, T, C] to [N, L, C], zeros behind each text."""
        out = x.new_zeros(len(self.lengths), int(self.lengths.max()), x.shape[-1])
        return out.index_put((self.text, self.place), x[self.is_real])

    def together(self, x: Tensor) -> Tensor:
        """The way back: x [N, L, C] -> [B, T, C], zeros where there is padding."""
        out = x.new_zeros(*self.is_real.shape, x.shape[-1])
        return out.masked_scatter(self.is_real[..., None], x[self.text, self.place])

    def first(self, of_tokens: Tensor) -> Tensor:
        """What the first token of each text has: of_tokens [B, T] -> [N]."""
        return of_tokens[self.is_real][self.place == 0]


def segments(is_real: Tensor | None, document_ids: Tensor | None) -> Segments | None:
    """From masks [B, T] of real tokens, and ids of contiguous documents; None where every row is one text."""
    if is_real is None and document_ids is None:
        return None
    if is_real is None:
        assert document_ids is not None
        is_real = torch.ones_like(document_ids)
    is_real = is_real.bool()
    ids = torch.zeros_like(is_real, dtype=torch.long) if document_ids is None else document_ids
    ids = torch.where(is_real, ids, ids.min() - 1)
    place = positions_in_documents(ids, ids)  # [B, T]
    number = (place == 0).flatten().cumsum(0).view_as(place)[is_real]  # [M], with gaps where there is padding
    _, text, lengths = torch.unique_consecutive(number, return_inverse=True, return_counts=True)
    return Segments(is_real, text, place[is_real], lengths)
