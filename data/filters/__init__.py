"""Quality filters: a rule measures a text and says the reason it drops it, or nothing."""

from data.filters.judge import Judge, Verdict, drop_reason
from data.filters.measures import CHECKS
from data.filters.rules import (
    DropReason,
    FilterRules,
    FineWebRules,
    LanguageRules,
    LineRules,
    Reading,
)

__all__ = [
    "CHECKS",
    "DropReason",
    "FilterRules",
    "FineWebRules",
    "Judge",
    "LanguageRules",
    "LineRules",
    "Reading",
    "Verdict",
    "drop_reason",
]
