import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.message.transfer import base64_lines, close_quoted, prefers_base64, quoted_piece

TEXTS = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=300) | st.text(
    "ab. =\n\té€", max_size=300
)


def decoded(body: bytes) -> str:
    return quopri.decodestring(body).decode().replace("\r\n", "\n")


@given(st.lists(TEXTS, max_size=5))
def test_joined_pieces_decode_to_the_joined_text(texts: list[str]) -> None:
    body = close_quoted("".join(map(quoted_piece, texts)))
    assert decoded(body) == "".join(texts)


@given(st.lists(TEXTS, max_size=5))
def test_lines_are_short_and_never_start_with_a_dot_or_end_with_a_blank(texts: list[str]) -> None:
    lines = "".join(map(quoted_piece, texts)).split("\r\n")
    assert all(len(line) <= 76 for line in lines)
    assert not [line for line in lines if line.startswith(".") or line.endswith((" ", "\t"))]
    assert all("\n" not in line and "\r" not in line for line in lines)


@pytest.mark.parametrize("text", [".", "..", "." * 500, "a\n.\nb", "a" * 72 + ".", "a" * 71 + "=.", "=" * 200, "\n.\n"])
def test_dots_at_breaks_are_encoded(text: str) -> None:
    body = close_quoted(quoted_piece(text))
    assert not [line for line in body.split(b"\r\n") if line.startswith(b".") or len(line) > 76]
    assert decoded(body) == text


def test_the_empty_text_is_the_empty_body() -> None:
    assert close_quoted(quoted_piece("")) == b""


@given(st.binary(max_size=400))
def test_base64_lines_decode_to_the_data(data: bytes) -> None:
    encoded = base64_lines(data)
    assert base64.b64decode(encoded) == data
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))


def test_base64_is_chosen_for_other_alphabets_only() -> None:
    assert prefers_base64("Привет всем")
    assert prefers_base64("你好")
    assert not prefers_base64("Grüße aus Köln, und habt eine schöne Zeit")
    assert not prefers_base64("")
