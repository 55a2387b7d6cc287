"""Documents as tokens: each document's ids and the end-of-text id."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from data.documents import Document
from data.shards import TokenRow
from data.tokenizer import Tokenizer

DOCUMENTS_AT_ONCE = 256  # so that the reference encoder, where it is used, has work for its threads


def tokenize_documents(documents: Iterable[Document], *, tokenizer: Tokenizer) -> Iterator[TokenRow]:
    """A row of tokens per document, in order, a few documents in memory at a time."""
    stream = iter(documents)
    while some := list(islice(stream, DOCUMENTS_AT_ONCE)):
        encoded = tokenizer.encode_batch([document.text for document in some])
        for document, ids in zip(some, encoded, strict=True):
            ended = np.append(ids, np.uint32(tokenizer.eos_id))
            yield TokenRow(document.id, document.source, len(document.text.encode()), ended)
