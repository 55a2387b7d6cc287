"""What is searched: ranges in words, and the values that a trial draws from them."""

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.errors import ConfigError, close_match

FORMS = ("uniform", "loguniform", "randint", "choice")
ALLOWED = (
    '"uniform(a, b)", "loguniform(a, b)" with 0 < a, "randint(a, b)" with whole numbers, "choice(a, b, …)"'
)
DIGITS = 6
"Significant digits of a drawn number: enough to search by, few enough to read and to type again."


@dataclass(frozen=True)
class Range:
    """The values that one key may take."""

    form: str
    "uniform, loguniform, randint or choice."
    arguments: tuple[Any, ...]

    def draw(self, source: random.Random) -> Any:
        """One value."""
        if self.form == "choice":
            return self.arguments[source.randrange(len(self.arguments))]
        low, high, *step = self.arguments
        if self.form == "randint":
            return source.randrange(low, high, *step)
        if self.form == "uniform":
            value = source.uniform(low, high)
        else:
            value = math.exp(source.uniform(math.log(low), math.log(high)))
        if step:
            value = round(value / step[0]) * step[0]
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def parse_range(key: str, text: str) -> Range:
    """The range that `text` tells, such as "loguniform(1e-4, 1e-2)".

    Raises:
        ConfigError: another form, or arguments that it does not take.
    """
    found = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", text, flags=re.DOTALL)
    if not found or found.group(1) not in FORMS:
        name = found.group(1) if found else text
        raise _refused(key, text, "is no range", close_match(name, FORMS))
    form, arguments = found.group(1), _arguments(key, text, found.group(2))
    if form == "choice":
        if not arguments:
            raise _refused(key, text, "offers nothing to choose from")
        return Range(form, arguments)
    return Range(form, _bounds(key, text, form, arguments))


def propose(search: Mapping[str, Range], *, seed: int, trial: int) -> dict[str, Any]:
    """The values of one trial: a pure function of the seed, the trial's number, and each key by itself.

    So a search with more trials, or with one key more, proposes for the rest what it proposed before.
    """
    return {key: each.draw(random.Random(f"{seed}/{trial}/{key}")) for key, each in search.items()}


def _arguments(key: str, text: str, inside: str) -> tuple[Any, ...]:
    try:
        values = yaml.safe_load(f"[{inside}]")
    except yaml.YAMLError as error:
        raise _refused(key, text, "cannot be read") from error
    return tuple(_number(value) for value in values)


def _number(value: Any) -> Any:
    """YAML 1.1 takes `1e-4`, which has no point, for a word."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _bounds(key: str, text: str, form: str, arguments: tuple[Any, ...]) -> tuple[float, ...]:
    kinds: tuple[type, ...] = (int,) if form == "randint" else (int, float)
    numbers = all(isinstance(each, kinds) and not isinstance(each, bool) for each in arguments)
    if not numbers or len(arguments) not in (2, 3):
        raise _refused(key, text, "takes two numbers, and a step as a third where there is one")
    low, high, *step = arguments
    if not low < high or (form == "loguniform" and low <= 0) or any(each <= 0 for each in step):
        raise _refused(key, text, "has bounds that leave nothing between them")
    return arguments


def _refused(key: str, text: str, why: str, hint: str = "") -> ConfigError:
    return ConfigError(
        f'"{text}" {why}', where=f"tune.search, {key}", allowed=ALLOWED, do=f"{hint}write it as one of these"
    )
