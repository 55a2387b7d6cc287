"""Globs over names with slashes."""

import re

_WILDCARD = re.compile(r"[*?\[]")
_GLOB_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


def glob_regex(glob: str) -> re.Pattern[str]:
    """A regular expression for a whole name: `**/` is any number of folders, a final `**` anything below."""
    special = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = []
    for part in _GLOB_PARTS.findall(glob):
        if part in special:
            parts.append(special[part])
        elif len(part) > 1:  # [...] or [!...]
            inner = part[1:-1].replace("\\", r"\\").replace("[", r"\[")
            parts.append(f"(?!/)[{'^' + inner[1:] if inner.startswith('!') else inner}]")
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts) + r"\Z", re.DOTALL)


def has_wildcard(part: str) -> bool:
    return bool(_WILDCARD.search(part))


def names_hidden(glob: str) -> bool:
    """Whether a glob names what begins with a dot, and so finds it."""
    return any(part.startswith(".") for part in glob.split("/"))


def depth_of(glob: str) -> int | None:
    """Components of a name that it can match at most; None: any."""
    return None if "**" in glob else len(glob.split("/"))
