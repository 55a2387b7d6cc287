"""A stretch of one file's rows: what one task reads of a file too large for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extent:
    """From `begin` up to `end`, in what the format can seek by.

    That is bytes for lines and Arrow streams, row groups for Parquet, record batches for Arrow files. A line belongs to
    the extent that its first byte lies in.
    """

    begin: int = 0
    end: int | None = None
    "None: to the end of the file."
    first_row: int = 0
    "The number of the first row that begins in it."


WHOLE = Extent()
