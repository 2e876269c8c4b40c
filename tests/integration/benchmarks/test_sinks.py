"""The light sink and the long wire against real connections."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.programs import listening
from benchmarks.sinks import count_at, light_sink
from demo.system import free_ports

ENVELOPE = b"MAIL FROM:<a@x.example>\r\nRCPT TO:<%s@x.example>\r\nDATA\r\n"
BODY = b"Subject: hello\r\n\r\nA dot:\r\n..\r\n.\r\n"


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[int]:
    async with light_sink(tmp_path / "record.txt") as port:
        yield port


async def talk(port: int, *pieces: bytes, answers: int) -> list[bytes]:
    """Send the pieces as segments of their own, and return the codes of so many answers after the greeting."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        codes = [(await reader.readline())[:3] for _ in range(answers)]
    writer.close()
    return codes


async def test_the_sink_answers_a_body_together_with_the_next_envelope(sink: int) -> None:
    codes = await talk(sink, ENVELOPE % b"one", BODY + ENVELOPE % b"two", BODY, answers=8)
    assert codes == [b"250", b"250", b"354", b"250", b"250", b"250", b"354", b"250"]
    assert await count_at(sink) == 2


async def test_the_sink_finds_the_dot_however_it_arrives(sink: int) -> None:
    stream = ENVELOPE % b"one" + BODY
    for cut in range(len(stream) - 6, len(stream)):
        assert (await talk(sink, stream[:cut], stream[cut:], answers=4))[-1] == b"250"
    assert await count_at(sink) == 6


async def test_the_sink_writes_down_who_a_message_was_for(sink: int, tmp_path: Path) -> None:
    await talk(sink, ENVELOPE % b"ada" + BODY, answers=4)
    when, address = (tmp_path / "record.txt").read_text(encoding="ascii").split()
    assert float(when) > 0
    assert address == "ada@x.example"


async def test_every_piece_on_the_long_wire_is_late_by_both_ways_and_keeps_its_place() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1):
            writer.write(piece)
        writer.close()

    (port,) = free_ports(1)
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    async with (
        server,
        listening(sys.executable, "-m", "benchmarks.delay_proxy", str(port), str(target), "50", port=port),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = []
        for piece in (b"1", b"2", b"3"):
            sent.append(loop.time())
            writer.write(piece)
            await asyncio.sleep(0.02)
        heard = [(await reader.readexactly(1), loop.time()) for _ in sent]
        writer.close()
    assert [piece for piece, _ in heard] == [b"1", b"2", b"3"]
    assert min(when - began for (_, when), began in zip(heard, sent, strict=True)) >= 0.095
