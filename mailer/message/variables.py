"""A recipient's variables: what may be given, and what is missing, before anything is stored or sent."""

import json
import math
from collections.abc import Iterable, Mapping

from mailer.message.characters import CONTROLS, SURROGATES

MAX_OCTETS = 16 * 1024  # as JSON
MAX_DEPTH = 8
MAX_NAME = 100

# Every template may use these; they hold the recipient's own, whatever the variables say.
ALWAYS_THERE = frozenset({"address", "display_name"})


def missing_variables(required: Iterable[str], variables: Mapping[str, object]) -> list[str]:
    """Return the names in `required` (see `Content.required_variables`) that were not given, sorted."""
    return sorted(name for name in required if name not in variables)


def check_size(variables: Mapping[str, object]) -> str | None:
    """Return why the variables are too large, with the cure, or None."""
    try:
        size = len(json.dumps(variables, ensure_ascii=False).encode(errors="replace"))
    except (TypeError, ValueError, RecursionError):
        return None  # for check_variables to explain
    if size > MAX_OCTETS:
        return f"{size} octets of variables, at most {MAX_OCTETS} are allowed: leave out what the template does not use"
    return None


def check_variables(variables: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return (path, problem with cure) for everything that no template could use: [] means good."""
    problems: list[tuple[str, str]] = []
    for name, value in variables.items():
        if not name or len(name) > MAX_NAME or CONTROLS.search(name):
            problems.append((f"{name!a:.120}", f"not a usable name: 1 to {MAX_NAME} characters without line breaks"))
        elif isinstance(value, str) and value.isascii() and "\0" not in value:
            continue
        else:
            _check_value(name, value, problems)
    return problems


def _check_value(path: str, value: object, problems: list[tuple[str, str]], depth: int = 1) -> None:
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
                if not isinstance(key, str):
                    problems.append((path, "an object with a key that is no text: use texts as keys"))
                _check_value(f"{path}.{key}", item, problems, depth + 1)
        case _:
            problems.append(
                (path, f"a {type(value).__name__}: give text, numbers, true, false, null, lists or objects")
            )
