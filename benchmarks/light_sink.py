"""`python -m benchmarks.light_sink PORT [FILE]`: an SMTP server that takes all and keeps nothing, as cheaply as it can.

It answers `XCOUNT` with the messages that it took. With a file it writes a line per message: when its MAIL came, as
seconds since 1970, and its recipient.
"""

import asyncio
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import uvloop

_GREETING = b"220 sink.example ESMTP\r\n"
_OFFERS = b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
_END = b"\r\n.\r\n"


class Sink:
    """What all connections share."""

    def __init__(self, record: TextIO | None) -> None:
        """Count from zero; write a line per message into the file, if there is one."""
        self.count = 0
        self.record = record


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink: Sink) -> None:
        """Take what all share."""
        self._sink = sink
        self._pending = b""
        self._in_body = False
        self._mail_time = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of asyncio's
        self._transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        """Answer all that is complete with one write."""
        assert self._transport is not None
        data = self._pending + data if self._pending else data
        answers: list[bytes] = []
        at = 0
        while True:
            if self._in_body:
                end = data.find(_END, at)
                if end < 0:
                    at = max(at, len(data) - len(_END) + 1)
                    break
                at = end + len(_END)
                self._in_body = False
                self._sink.count += 1
                answers.append(b"250 2.0.0 taken\r\n")
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    break
                answers.append(self._answer(data[at:end]))
                at = end + 2
        self._pending = data[at:]
        if answers:
            self._transport.write(b"".join(answers))

    def _answer(self, line: bytes) -> bytes:
        answer = b"250 2.0.0 ok\r\n"
        match line[:4].upper():
            case b"MAIL":
                self._mail_time = time.time()
            case b"RCPT" if self._sink.record is not None:
                address = line[line.find(b"<") + 1 : line.find(b">")]
                self._sink.record.write(f"{self._mail_time:.6f} {address.decode('latin-1')}\n")
            case b"DATA":
                self._in_body = True
                answer = b"354 go on\r\n"
            case b"EHLO":
                answer = _OFFERS
            case b"XCOU":
                answer = b"250 %d\r\n" % self._sink.count
            case b"QUIT":
                answer = b"221 2.0.0 bye\r\n"
            case _:
                pass
        return answer


async def main(port: int, file: Path | None) -> None:
    """Serve until told to end."""
    record = file.open("w", encoding="latin-1", buffering=1) if file else None
    sink = Sink(record)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await loop.create_server(lambda: Session(sink), "127.0.0.1", port, backlog=512)
    await ended.wait()
    server.close()
    if record is not None:
        record.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
