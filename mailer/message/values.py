"""What a template may do with a recipient's values: JSON-like data and nothing else.

The functions here are what the translated templates call. Attributes of Python objects are out of reach
because nothing asks for one: a dotted name reads a key of a dict or a place of a list.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mailer.message.characters import CONTROLS
from mailer.message.problems import RenderProblem
from mailer.message.transfer import SOFT_BREAK, quoted_piece

MAX_STEPS = 50_000  # nodes of the template passed in loops by one rendering, about 10 ms
MAX_LENGTH = 1 << 20  # characters of one rendered part
MAX_FILTERED = 1 << 20  # characters that pass through the filters and ~ of one rendering, at most a second


class Missing:
    """The value of a name nobody gave; only `default` and `is defined` ever see it."""


MISSING: Final = Missing()


def text(value: object) -> str:
    """Return the value as a reader expects it: null is nothing, 5.0 is 5, true is true. Lists are refused."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int):
        return str(value)
    raise RenderProblem(f"{kind(value)} cannot be written as text: loop over it, use join, or name one of its fields")


def kind(value: object) -> str:  # noqa: PLR0911 - one for each type
    """Name a value's type in the words of someone who writes JSON."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case Missing():
            return "a missing value"
        case _:
            return f"a {type(value).__name__}"


def find(value: object, key: str | int) -> object:
    """Return a field of an object or a place of a list, or MISSING."""
    if isinstance(key, str):
        return value.get(key, MISSING) if isinstance(value, dict) else MISSING
    if isinstance(value, (list, tuple)) and -len(value) <= key < len(value):
        return value[key]
    return MISSING


def member(value: object, key: str | int, path: str) -> object:
    """Return a field of an object or a place of a list; `path` names it in the RenderProblem."""
    if type(value) is dict and key in value:
        return value[key]
    found = find(value, key)
    if found is MISSING:
        if isinstance(value, (dict, list, tuple)):
            raise RenderProblem(f"{path} is missing: give it, or write {path}|default('...')")
        raise RenderProblem(f"{path} is missing, what is before it is {kind(value)}: correct the name or the value")
    return found


def present(value: object, path: str) -> object:
    """Return the value unless it is MISSING."""
    if value is MISSING:
        raise RenderProblem(f"{path} gives nothing: write {path}|default('...')")
    return value


def each(value: object, path: str) -> list[object] | tuple[object, ...]:
    """Return the list a loop goes over."""
    if isinstance(value, (list, tuple)):
        return value
    raise RenderProblem(f"{path} is {kind(value)}: a loop needs a list")


def parity(value: object) -> int:
    """Return 0 for an even number and 1 for an odd one."""
    if isinstance(value, (int, float)) and value == int(value):
        return int(value) % 2
    raise RenderProblem(f"odd and even need a whole number, not {kind(value)}")


def whole(result: str, limit: int) -> str:
    """Return the finished result unless it is too long or has a NUL, which no mail may contain (RFC 5322 4)."""
    if len(result) > limit:
        raise RenderProblem(f"the result is longer than {limit} characters: shorten the values")
    if "\0" in result:
        raise RenderProblem("a value with a NUL character: remove it")
    return result


class Meter:
    """Keeps one rendering within bounds, so that nested loops over long lists end early and cheaply."""

    __slots__ = ("_filtered", "_length", "_limit", "_seen", "_steps")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._filtered = 0
        self._steps = 0
        self._length = 0
        self._seen = 0

    def spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise RenderProblem("the loops go round too often: shorten the list or take a loop out of the loop")

    def apply(self, function: Callable[..., object], value: object, *arguments: object, **named: object) -> object:
        """Call a filter. A short loop around a slow filter over a long text would otherwise take minutes."""
        self._count(value)
        result = function(value, *arguments, **named)
        self._count(result)
        return result

    def join(self, values: tuple[object, ...]) -> str:
        """Write values one after the other (`~`); too many are refused before there is a text of them all."""
        texts = [text(value) for value in values]
        self._add(sum(map(len, texts)))
        return "".join(texts)

    def _count(self, value: object) -> None:
        if isinstance(value, (str, list, tuple)):
            self._add(len(value))

    def _add(self, length: int) -> None:
        self._filtered += length
        if self._filtered > MAX_FILTERED:
            raise RenderProblem(
                f"the texts that go through filters and ~ are longer than {MAX_FILTERED} characters in all: "
                "shorten the list or the values"
            )

    def measure(self, output: list[str]) -> None:
        """Add up what was written since the last call."""
        self._length += sum(map(len, output[self._seen :]))
        self._seen = len(output)
        if self._length > self._limit:
            raise RenderProblem(f"the result is longer than {self._limit} characters: shorten the list or the values")


@dataclass(frozen=True, slots=True)
class Form:
    """How a template's literal text and its values are written into the result."""

    literal: Callable[[str], str]
    value: Callable[[object], str]
    max_length: int = MAX_LENGTH


def _escaped(value: object) -> str:
    return html.escape(value if isinstance(value, str) else text(value))


def _header(value: object) -> str:
    if type(value) is str and value.isascii() and value.isprintable():
        return value
    written = text(value)
    if CONTROLS.search(written):
        raise RenderProblem("a value with a line break or another control character in a header: remove it there")
    return written


# Values that need neither encoding nor (in HTML) escaping, which are most: one pass decides.
_PLAIN = re.compile(r"[ !-\-/-<>-~][ -<>-~]{0,72}+")
_PLAIN_HTML = re.compile(r"[ !#-%(-\-/-;?-~][ !#-%(-;?-~]{0,72}+")


def _quoted_text(value: object) -> str:
    written = value if isinstance(value, str) else text(value)
    if _PLAIN.fullmatch(written):
        return written + SOFT_BREAK
    return quoted_piece(_line_ends(written))


def _quoted_html(value: object) -> str:
    written = value if isinstance(value, str) else text(value)
    if _PLAIN_HTML.fullmatch(written):
        return written + SOFT_BREAK
    return quoted_piece(_line_ends(html.escape(written)))


def _line_ends(written: str) -> str:
    if "\0" in written:
        raise RenderProblem("a value with a NUL character: remove it")
    return written.replace("\r\n", "\n").replace("\r", "\n")


PLAIN_TEXT = Form(str, text)
PLAIN_HTML = Form(str, _escaped)
HEADER = Form(str, _header)
QUOTED_TEXT = Form(quoted_piece, _quoted_text, 4 * MAX_LENGTH)
QUOTED_HTML = Form(quoted_piece, _quoted_html, 4 * MAX_LENGTH)
