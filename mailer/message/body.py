"""A text or HTML body: the template, and how its result is encoded for the wire."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mailer.message.plain_text import plain_text, plain_text_template
from mailer.message.problems import MessageProblem, RenderProblem, TemplateProblem
from mailer.message.template import CompiledTemplate, Mode, compile_quoted, compile_template
from mailer.message.transfer import base64_lines, close_quoted, prefers_base64

_TYPES: Mapping[Mode, str] = {Mode.TEXT: "text/plain", Mode.HTML: "text/html"}


@dataclass(frozen=True, slots=True)
class Body:
    """`render` gives what a reader sees, `encode` the same as bytes of the message. Both raise RenderProblem."""

    fields: str  # the part's header lines
    render: Callable[[Mapping[str, object]], str]
    encode: Callable[[Mapping[str, object]], bytes]


def compile_body(source: str, mode: Mode) -> Body:
    """Return the body for a template. Raises TemplateProblem."""
    plain = compile_template(source, mode)
    if prefers_base64(source):
        return _body(plain, mode, "base64", lambda values: _base64(plain.render(values)))
    quoted = compile_quoted(source, mode)
    return _body(plain, mode, "quoted-printable", lambda values: close_quoted(quoted.render(values)))


def compile_text_of(html: str) -> Body:
    """Return the plain text body that goes with an HTML template. Raises TemplateProblem."""
    source = plain_text_template(html)
    if source is not None:
        try:
            return compile_body(source, Mode.TEXT)
        except TemplateProblem:
            pass  # a tag inside a tag's text, say: translate the finished HTML instead
    template = compile_template(html, Mode.HTML)

    def render(values: Mapping[str, object]) -> str:
        return plain_text(template.render(values))

    return Body(_fields(Mode.TEXT, "base64"), render, lambda values: _base64(render(values)))


def _body(plain: CompiledTemplate, mode: Mode, encoding: str, encode: Callable[[Mapping[str, object]], bytes]) -> Body:
    if plain.is_constant:
        try:
            encoded = encode({})
        except RenderProblem as problem:
            raise MessageProblem(str(problem)) from None
        return Body(_fields(mode, encoding), plain.render, lambda _: encoded)
    return Body(_fields(mode, encoding), plain.render, encode)


def _fields(mode: Mode, encoding: str) -> str:
    return f'Content-Type: {_TYPES[mode]}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}'


def _base64(text: str) -> bytes:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    try:
        return base64_lines(lines.encode())
    except UnicodeEncodeError:
        raise RenderProblem("half of a character (a lone surrogate) in a value: send valid UTF-8") from None
