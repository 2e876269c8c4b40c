"""A template of a message: the safe part of Jinja2's language, compiled once, rendered for each recipient.

Allowed are `{{ value }}`, dotted names and constant subscripts, `if`/`elif`/`else`, `for`, comparisons,
`and`, `or`, `not`, `in`, `~`, `x if y else z`, the tests `defined`, `undefined`, `none`, `odd`, `even`, and
the filters of `filters.py`. Values are data: whatever looks like a template in them stays as it is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from types import TracebackType
from typing import Any, Final

from jinja2 import TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailer.message.characters import CONTROLS, SURROGATES
from mailer.message.filters import unescaped
from mailer.message.problems import RenderProblem, TemplateProblem
from mailer.message.translate import NAMES, translate
from mailer.message.values import HEADER, PLAIN_HTML, PLAIN_TEXT, QUOTED_HTML, QUOTED_TEXT, Form

MAX_SOURCE_OCTETS = 256 * 1024
# More would keep the parser busy for seconds. A long newsletter has 2,000; each of the 50 headers may have its own.
MAX_TOKENS = 30_000
MAX_HEADER_TOKENS = 2_000

# A tag alone on its line takes the line with it, as in Mustache. The line break moves into the tag, so that
# lines keep their numbers. `+%}` keeps the line, as in Jinja2.
_STANDALONE = re.compile(
    r"^[ \t]*(\{%(?!\+)(?:(?!%\}|\{%)[^\n])*?|\{#(?:(?!#\}|\{#)[^\n])*?)(?<!\+)(-?[%#]\})[ \t]*\n", re.MULTILINE
)
_RAW = re.compile(r"\{%[-+]?\s*raw\b")
_FILE = "<template>"
_FAILURES = (RenderProblem, KeyError, TypeError, ValueError, ArithmeticError)  # all that translated code raises


class Mode(Enum):
    """Where the result goes, which decides what is escaped and what is refused."""

    TEXT = "text"
    HTML = "html"  # every value is escaped, exactly once
    HEADER = "header"  # one line; control characters are refused in the template and in the values


_PLAIN: Final[Mapping[Mode, Form]] = {Mode.TEXT: PLAIN_TEXT, Mode.HTML: PLAIN_HTML, Mode.HEADER: HEADER}
_QUOTED: Final[Mapping[Mode, Form]] = {Mode.TEXT: QUOTED_TEXT, Mode.HTML: QUOTED_HTML}


@dataclass(frozen=True, slots=True)
class CompiledTemplate:
    """A checked template. `variables` must be given; the absence of `optional` ones is provided for.

    `nested` are fields, like person.name, without which no rendering succeeds: those read outside of every `if`,
    `for`, second side of `and` or `or`, and `default`. Places in lists are not among them.
    """

    mode: Mode
    variables: frozenset[str]
    optional: frozenset[str]
    nested: frozenset[str]
    _function: Callable[[Mapping[str, object]], str]
    _lines: tuple[int, ...]

    def render(self, variables: Mapping[str, object]) -> str:
        """Return the result for one recipient. Raises RenderProblem."""
        try:
            return self._function(variables)
        except _FAILURES as error:
            line, problem = _explain(error, self._lines)
            raise RenderProblem(f"{self.mode.value}, line {line}: {problem}") from None

    @property
    def is_constant(self) -> bool:
        """True when no value of the recipient is used, so that one rendering serves all."""
        return not self.variables and not self.optional


# Checking a content, asking for its variables and compiling it meet the same few templates: remember them.
@lru_cache(maxsize=64)
def compile_template(source: str, mode: Mode) -> CompiledTemplate:
    """Check and compile. Raises TemplateProblem with the line, what is wrong, and the cure."""
    return _compile(source, mode, _PLAIN[mode])


def compile_quoted(source: str, mode: Mode) -> CompiledTemplate:
    """The same for TEXT and HTML, rendering into quoted-printable pieces: see `transfer.close_quoted`."""
    return _compile(source, mode, _QUOTED[mode])


def _compile(source: str, mode: Mode, form: Form) -> CompiledTemplate:
    source = _checked_source(source, mode)
    try:
        limit = MAX_HEADER_TOKENS if mode is Mode.HEADER else MAX_TOKENS
        translation = translate(_parse(source, limit), form)
        namespace: dict[str, Any] = {**NAMES, "write": form.value, "__builtins__": {}}
        if mode is Mode.HTML:
            namespace |= {"filter_escape": unescaped, "filter_e": unescaped}
        exec(compile(translation.source, _FILE, "exec"), namespace)  # noqa: S102 - our own code, see translate.py
    except RecursionError:
        raise TemplateProblem(1, "the template is nested too deeply: make it simpler") from None
    try:
        namespace["check"]()
    except _FAILURES as error:
        raise TemplateProblem(*_explain(error, translation.lines)) from None
    return CompiledTemplate(
        mode,
        translation.required,
        translation.optional,
        translation.nested,
        namespace["render"],
        translation.lines,
    )


def _checked_source(source: str, mode: Mode) -> str:
    if len(source) > MAX_SOURCE_OCTETS or len(source.encode(errors="replace")) > MAX_SOURCE_OCTETS:
        raise TemplateProblem(1, f"longer than {MAX_SOURCE_OCTETS // 1024} KiB: shorten it")
    if SURROGATES.search(source):
        raise TemplateProblem(1, "half of a character (a lone surrogate): send valid UTF-8")
    if "\0" in source:
        raise TemplateProblem(1, "a NUL character: remove it")
    if mode is Mode.HEADER:
        source = source.strip()
        if CONTROLS.search(source):
            raise TemplateProblem(1, "a line break or another control character in a header: write it on one line")
        return source
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    return source if _RAW.search(source) else _STANDALONE.sub(r"\1\n\2", source)


def _parse(source: str, most_tokens: int) -> nodes.Template:
    """Parse and nothing else: Jinja2 never compiles or runs what an author wrote."""
    environment = ImmutableSandboxedEnvironment(keep_trailing_newline=True)
    try:
        if any(count > most_tokens for count, _ in enumerate(environment.lex(source))):
            raise TemplateProblem(1, "too many tags or too much in them: make the template simpler")
        return environment.parse(source)
    except TemplateSyntaxError as error:
        said = (error.message or "it cannot be read").rstrip(".")
        raise TemplateProblem(error.lineno, f"{said}: correct the template") from None
    except TemplateProblem:
        raise
    except (ValueError, SyntaxError, OverflowError) as error:
        raise TemplateProblem(1, f"a number or text that cannot be read ({error}): correct it") from None


def _explain(error: Exception, lines: tuple[int, ...]) -> tuple[int, str]:
    """Return the template's line that failed, and why with the cure."""
    match error:
        case RenderProblem():
            problem = str(error)
        case KeyError():
            name = error.args[0]
            problem = f"the variable {name!r} is missing: give it, or write {name}|default('...')"
        case UnicodeError():
            problem = "half of a character (a lone surrogate): send valid UTF-8"
        case _:
            problem = f"values that do not go together ({error}): compare numbers with numbers and texts with texts"
    return _line(error.__traceback__, lines), problem


def _line(traceback: TracebackType | None, lines: tuple[int, ...]) -> int:
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == _FILE:
            return lines[traceback.tb_lineno - 1]
        traceback = traceback.tb_next
    return 1
