"""A mark in a document's metadata: the id of the document that it duplicates."""

import json
from dataclasses import replace

from data.documents import Document

MARK = "duplicate_of"


def marked(document: Document, kept_id: str) -> Document:
    """The document with the id of the one that stands for its cluster."""
    fields = json.loads(document.metadata) if document.metadata else {}
    metadata = json.dumps(fields | {MARK: kept_id}, sort_keys=True, separators=(",", ":"))
    return replace(document, metadata=metadata)


def cluster_of(document: Document) -> str:
    """The id that all documents of a cluster share: the one that stands for it has no mark, and its own id."""
    if MARK not in document.metadata:
        return document.id
    return str(json.loads(document.metadata).get(MARK, document.id))
