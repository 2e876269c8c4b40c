"""Which functions may run in the writer's process."""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_portable: set[Callable[..., Any]] = set()


def portable(function: F) -> F:
    """Mark a function of a module as one that may run in the writer's process.

    It works on the connection alone; its arguments and its result are plain data, and it changes no argument.
    """
    _portable.add(function)
    return function


def is_portable(function: Callable[..., Any]) -> bool:
    """Say whether a function may run in the writer's process."""
    return function in _portable
