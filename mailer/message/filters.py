"""The filters of a template. Each takes JSON-like data and returns it; none can grow its input without bound.

Their signatures are what a template may write: the first parameter is the filtered value, the others are
constants of the annotated type (`default` alone takes any expression).
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from html import escape as html_escape
from typing import Final
from urllib.parse import quote

from mailer.message.problems import RenderProblem
from mailer.message.values import MAX_LENGTH, MISSING, find, kind, text

_WORD_START = re.compile(r"([-\s({\[<]+)")
_DATE_FORMAT = re.compile(r"(?:[^%]|%[aAbBdHIjmMpSyYZz%])*")


def default(value: object, fallback: object = "", boolean: bool = False) -> object:
    """Replace a missing value or null; with `true` as second argument also what is empty, 0 or false."""
    if value is MISSING or value is None or (boolean and not value):
        return fallback
    return value


def upper(value: object) -> str:
    return text(value).upper()


def lower(value: object) -> str:
    return text(value).lower()


def capitalize(value: object) -> str:
    return text(value).capitalize()


def title(value: object) -> str:
    """Capitalise every word (`don't` stays one word, unlike in Python's `str.title`)."""
    return "".join(word[:1].upper() + word[1:].lower() for word in _WORD_START.split(text(value)))


def trim(value: object) -> str:
    return text(value).strip()


def length(value: object) -> int:
    if isinstance(value, (str, list, tuple, dict)):
        return len(value)
    raise RenderProblem(f"length needs a text or a list, not {kind(value)}")


def first(value: object) -> object:
    return _end(value, 0)


def last(value: object) -> object:
    return _end(value, -1)


def join(value: object, separator: str = "", attribute: str = "") -> str:
    """Write the items of a list one after the other; `attribute` names a field of each."""
    if not isinstance(value, (list, tuple)):
        raise RenderProblem(f"join needs a list, not {kind(value)}")
    _refuse_longer(len(separator) * len(value))
    items = [find(item, attribute) for item in value] if attribute else value
    return separator.join([text(item) for item in items])


def replace(value: object, old: str, new: str) -> str:
    written = text(value)
    _refuse_longer(len(written) + written.count(old) * (len(new) - len(old)))
    return written.replace(old, new)


def truncate(value: object, length: int = 255, killwords: bool = False, end: str = "...") -> str:
    """Shorten to at most `length` characters, `end` included, between words unless `killwords`."""
    written = text(value)
    if len(written) <= length:
        return written
    cut = written[: max(length - len(end), 0)]
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + end


def to_int(value: object, default: int = 0) -> int:
    """Return the whole number in a text or number, `default` when there is none."""
    try:
        return int(value) if isinstance(value, (int, float)) else int(text(value).strip())
    except (ValueError, OverflowError):
        try:
            return int(float(text(value)))
        except (ValueError, OverflowError):
            return default


def round_number(value: object, precision: int = 0) -> float:
    return round(_number(value, "round"), _digits(precision))


def fixed(value: object, digits: int = 2) -> str:
    """Write a number with exactly so many digits after the point: 19.9 is 19.90."""
    return f"{_number(value, 'fixed'):.{_digits(digits)}f}"


def date(value: object, pattern: str = "%Y-%m-%d") -> str:
    """Write an ISO 8601 date or time by a pattern of %-letters."""
    if not _DATE_FORMAT.fullmatch(pattern):
        raise RenderProblem("date knows only %a %A %b %B %d %H %I %j %m %M %p %S %y %Y %Z %z and %%")
    try:
        return datetime.fromisoformat(text(value)).strftime(pattern)
    except ValueError:
        raise RenderProblem("date needs an ISO 8601 date or time, like 2026-12-24 or 2026-12-24T09:00") from None


def urlencode(value: object) -> str:
    """Percent-encode for a part of a URL; a slash stays, as in Jinja2."""
    return quote(text(value).encode(), safe="/")


def escape(value: object) -> str:
    return html_escape(text(value))


def unescaped(value: object) -> str:
    """`escape` where every value is escaped anyway: once, at the very end, and never twice."""
    return text(value)


def _end(value: object, place: int) -> object:
    if value is MISSING:
        return MISSING
    if not isinstance(value, (str, list, tuple)):
        raise RenderProblem(f"first and last need a list or a text, not {kind(value)}")
    return value[place] if value else MISSING


def _number(value: object, name: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    try:
        return float(text(value))
    except ValueError:
        raise RenderProblem(f"{name} needs a number") from None


def _digits(count: int) -> int:
    if not 0 <= count <= 15:
        raise RenderProblem("the number of digits must be from 0 to 15")
    return count


def _refuse_longer(length: int) -> None:
    if length > MAX_LENGTH:
        raise RenderProblem(f"a result longer than {MAX_LENGTH} characters: shorten the value")


FILTERS: Final[Mapping[str, Callable[..., object]]] = {
    "capitalize": capitalize,
    "date": date,
    "default": default,
    "d": default,
    "escape": escape,
    "e": escape,
    "first": first,
    "fixed": fixed,
    "int": to_int,
    "join": join,
    "last": last,
    "length": length,
    "count": length,
    "lower": lower,
    "replace": replace,
    "round": round_number,
    "title": title,
    "trim": trim,
    "truncate": truncate,
    "upper": upper,
    "urlencode": urlencode,
}
