"""Attributes that are computed when they are first asked for."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class lazy(Generic[Value]):  # noqa: N801 - a decorator
    """As `functools.cached_property`, without the lock that it takes before Python 3.12."""

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self._function, self._name = function, function.__name__

    def __get__(self, owner: Any, kind: type | None = None) -> Value:
        value = owner.__dict__[self._name] = self._function(owner)
        return value
