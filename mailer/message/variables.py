"""A recipient's variables: what may be given, before anything is stored or sent."""

import math
from collections.abc import Mapping

from mailer.message.characters import CONTROLS, SURROGATES

MAX_DEPTH = 8
MAX_NAME = 100
_NO_NAME = f"not a usable name: write a text of 1 to {MAX_NAME} characters without line breaks"

# Every template may use these; they hold the recipient's own, whatever the variables say.
ALWAYS_THERE = frozenset({"address", "display_name"})


def check_variables(variables: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return (path, problem with cure) for everything that no template could use: [] means good."""
    problems: list[tuple[str, str]] = []
    for name, value in variables.items():
        if not _is_name(name):
            problems.append((f"{name!a:.120}", _NO_NAME))
        elif isinstance(value, str) and value.isascii() and "\0" not in value:
            continue
        else:
            _check_value(name, value, problems)
    return problems


def _is_name(name: object) -> bool:
    if isinstance(name, str) and name.isascii() and name.isprintable():
        return 0 < len(name) <= MAX_NAME
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME
        and not CONTROLS.search(name)
        and not SURROGATES.search(name)
    )


def _check_value(  # noqa: PLR0912 - a case for each type
    path: str, value: object, problems: list[tuple[str, str]], depth: int = 1
) -> None:
    if depth > MAX_DEPTH:
        problems.append((path, f"nested deeper than {MAX_DEPTH}: make it flatter"))
        return
    match value:
        case None | bool() | int():
            pass
        case float():
            if not math.isfinite(value):
                problems.append((path, "not a finite number: give a number or null"))
        case str():
            if "\0" in value or SURROGATES.search(value):
                problems.append((path, "a NUL or half of a character (a lone surrogate): remove it"))
        case list() | tuple():
            for place, item in enumerate(value):
                _check_value(f"{path}[{place}]", item, problems, depth + 1)
        case dict():
            for key, item in value.items():
                if _is_name(key):
                    _check_value(f"{path}.{key}", item, problems, depth + 1)
                else:
                    problems.append((f"{path}.{key!a:.120}", _NO_NAME))
        case _:
            problems.append(
                (path, f"a {type(value).__name__}: give text, numbers, true, false, null, lists or objects")
            )
