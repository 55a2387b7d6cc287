"""HTML pages: the main text of each, without navigation, advertisements and comments.

The text is found by trafilatura (Barbaresi 2021, "Trafilatura: A Web Scraping Library and Command-Line Tool for Text
Discovery and Extraction", ACL-IJCNLP demonstrations), with its own defaults but for comments.
"""

import codecs
import logging
import re
from collections.abc import Iterator
from typing import BinaryIO

import trafilatura

from data.documents import Document
from data.readers.lines import whole_file
from data.reading import ReadRules, Reason, Unreadable, checked

# The encoding is looked for as far as the HTML standard has a browser look (13.2.3.2, "prescan a byte stream").
PRESCAN_BYTES = 1024
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]+)", re.IGNORECASE)
logging.getLogger("trafilatura").addHandler(logging.NullHandler())  # what it finds wrong becomes an outcome


def read_html(stream: BinaryIO, name: str, rules: ReadRules) -> Iterator[Document | Unreadable]:
    """The main text of the file is one document, its id the file's name."""
    raw = whole_file(stream, name, rules)
    yield raw if isinstance(raw, Unreadable) else _page_document(raw, name, rules)


def _page_document(raw: bytes, name: str, rules: ReadRules) -> Document | Unreadable:
    page = _decoded(raw)
    if page is None:
        detail = "neither UTF-8 nor in the encoding that the page names"
        return Unreadable(name, 0, Reason.INVALID_UTF8, detail)
    if not page or page.isspace():
        return Unreadable(name, 0, Reason.EMPTY, "nothing but white space")
    text = main_text(page)
    if text is None:
        return Unreadable(name, 0, Reason.NO_MAIN_TEXT, "no main text is found in the page")
    return checked(text=text, source=name, row=0, doc_id=name, rules=rules)


def main_text(page: str) -> str | None:
    """The main text of a page, paragraphs parted by line ends; None where there is none."""
    try:
        found = trafilatura.extract(page, include_comments=False)
    except RecursionError:  # elements nested by the thousand
        return None
    return found or None


def _decoded(raw: bytes) -> str | None:
    """UTF-8, or what a byte order mark or the page itself says; nothing is guessed."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if raw.startswith(mark):
            return _decoded_as(raw, encoding)
    page = _decoded_as(raw, "utf-8-sig")
    if page is None and (said := _CHARSET.search(raw[:PRESCAN_BYTES])):
        page = _decoded_as(raw, said.group(1).decode("ascii"))
    return page


def _decoded_as(raw: bytes, encoding: str) -> str | None:
    try:
        codecs.lookup(encoding)
        return raw.decode(encoding)
    except (LookupError, UnicodeDecodeError):
        return None
