"""Bytes become replies, in whatever pieces they arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.replies import Reply
from services.sender.smtp.reader import MAX_REPLY_BYTES, ReplyReader

CODES = st.integers(200, 599)
TEXTS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)
REPLIES = st.builds(Reply, CODES, st.lists(TEXTS, min_size=1, max_size=4).map(tuple))


def wire_form(reply: Reply) -> bytes:
    last = len(reply.lines) - 1
    lines = (f"{reply.code}{' ' if i == last else '-'}{line}\r\n" for i, line in enumerate(reply.lines))
    return "".join(lines).encode()


def read(*pieces: bytes) -> ReplyReader:
    reader = ReplyReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


@given(st.lists(REPLIES, max_size=6), st.data())
def test_replies_are_the_same_in_whatever_pieces_they_come(replies: list[Reply], data: st.DataObject) -> None:
    stream = b"".join(map(wire_form, replies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    reader = read(*pieces)
    assert list(reader.replies) == replies
    assert not reader.garbage
    assert not reader.unfinished


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_any_bytes_are_replies_garbage_or_unfinished_but_never_an_error(pieces: list[bytes]) -> None:
    reader = read(*pieces)
    assert all(200 <= reply.code <= 599 for reply in reader.replies)


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"25\r\n",
        b"25x ok\r\n",
        b"2500 ok\r\n",
        b"250_ok\r\n",
        b"+250 ok\r\n",
        b" 250 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"\xb2\xb3\xb4 digits in another alphabet\r\n",
        "\uff12\uff15\uff10 ok\r\n".encode(),
        b"HTTP/1.1 400 Bad Request\r\n",
        b"250-one\r\n251 two\r\n",
        b"250-one\r\n\r\n",
    ],
)
def test_what_is_no_reply_is_garbage(line: bytes) -> None:
    reader = read(b"250 before\r\n", line, b"250 after\r\n")
    assert list(reader.replies) == [Reply(250, ("before",))]
    assert reader.garbage
    assert reader.garbage.isprintable()


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"250 ok\r\n", Reply(250, ("ok",))),
        (b"250 ok\n", Reply(250, ("ok",))),
        (b"250\r\n", Reply(250, ("",))),
        (b"250\n", Reply(250, ("",))),
        (b"250 \r\n", Reply(250, ("",))),
        (b"250-\r\n250\r\n", Reply(250, ("", ""))),
        (b"250 gr\xc3\xbc\xc3\x9fe\r\n", Reply(250, ("grüße",))),
        (b"250 gr\xfc\xdfe\r\n", Reply(250, ("gr��e",))),
    ],
)
def test_replies_of_odd_servers_are_understood(data: bytes, reply: Reply) -> None:
    assert list(read(data).replies) == [reply]


def test_a_reply_may_have_64_kb_and_not_a_byte_more() -> None:
    fitting = b"250 " + b"x" * (MAX_REPLY_BYTES - 6) + b"\r\n"
    assert len(fitting) == MAX_REPLY_BYTES
    assert len(read(fitting).replies) == 1
    assert read(b"250 x" + fitting[4:]).garbage
    assert read(fitting[:-2] + b"xx").garbage == ""
    assert read(fitting[:-2] + b"xxx").garbage
    assert read(*[b"250-" + b"x" * 94 + b"\r\n"] * 656).garbage
    assert not read(*[b"250-" + b"x" * 94 + b"\r\n"] * 655).garbage


def test_the_limit_holds_for_each_reply_and_not_for_all_together() -> None:
    reader = read(*[b"250 " + b"x" * 60_000 + b"\r\n"] * 5)
    assert len(reader.replies) == 5


def test_an_unfinished_reply_shows_its_beginning() -> None:
    assert read(b"421-closing\r\n").unfinished == "closing"
    assert read(b"421 clo").unfinished == "421 clo"
    assert read(b"250-\r\n").unfinished == "?"
    assert read(b"250 ok\r\n").unfinished == ""


def test_a_server_cannot_fill_the_memory_with_different_lines() -> None:
    reader = read(*[f"250 queued as {number}\r\n".encode() for number in range(10_000)])
    assert len(reader.replies) == 10_000
    assert len(reader._known) == 64
