"""`python -m chaos.server PORT FILE SEED`: an SMTP server that writes down what it accepts before it says so.

It is never killed, so its file is the truth. What it has read up to the final dot it accepts, whether or not the client
lives to hear of it. Once in a hundred times it refuses for now, and a few times in a thousand it closes the connection
instead of answering the dot, with or without having accepted. Two messages for one mailbox at a time it does not take.
SIGUSR1 makes the dots wait that are unanswered in that instant, SIGUSR2 lets them go.
"""

import asyncio
import hashlib
import signal
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

from chaos.parent import die_with_parent
from chaos.record import Kind, Recorder

REFUSED_RECIPIENTS = 0.01
REFUSED_MESSAGES = 0.005
CUT_CONNECTIONS = 0.002
LONGEST_DELAY = 0.03  # between a dot and its answer
LONGEST_HOLD = 30.0  # should the harness die meanwhile


class Gone(Exception):
    """The client is gone, or we are done with it."""


class Server:
    """Counts connections and rolls the dice."""

    def __init__(self, record: Recorder, random: Random) -> None:
        """Take the file and the dice."""
        self.record = record
        self.random = random
        self._count = 0
        self.busy_mailboxes: set[str] = set()
        self.at_dot: set[Session] = set()
        self._released = asyncio.Event()

    def hold(self) -> None:
        """Let the dots that are unanswered now wait."""
        self._released = asyncio.Event()
        for session in self.at_dot:
            session.hold(self._released)

    def release(self) -> None:
        """Answer them."""
        self._released.set()

    def chance(self, probability: float) -> bool:
        """Roll the dice."""
        return self.random.random() < probability

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self._count += 1
        session = Session(self, self._count, reader, writer)
        self.record.write(Kind.OPENED, session.number)
        try:
            await session.run()
        except (Gone, ConnectionError, asyncio.IncompleteReadError):
            if not session.is_over:
                self.record.write(Kind.LOST, session.number)
        finally:
            session.forget_transaction()
            writer.close()


class Session:
    """One connection."""

    def __init__(self, server: Server, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection that has just been made."""
        self.number = number
        self.is_over = False  # by our will or with a goodbye
        self._server = server
        self._reader = reader
        self._writer = writer
        self._recipient = ""
        self._held_until: asyncio.Event | None = None

    async def run(self) -> None:
        """Answer until the end; raises Gone or ConnectionError."""
        self._say("220 chaos.example ESMTP")
        while True:
            line = (await self._line()).upper()
            match line[:4]:
                case "EHLO":
                    self._say("250-chaos.example", "250-PIPELINING", "250-8BITMIME", "250 ENHANCEDSTATUSCODES")
                case "RCPT":
                    self._rcpt(line)
                case "DATA":
                    await self._data()
                case "QUIT":
                    self.is_over = True
                    self._say("221 2.0.0 bye")
                    raise Gone
                case _:
                    self.forget_transaction()
                    self._say("250 2.0.0 ok")

    def _rcpt(self, line: str) -> None:
        self.forget_transaction()
        recipient = line.partition("<")[2].partition(">")[0].lower()
        if recipient in self._server.busy_mailboxes:
            self._say("450 4.2.1 mailbox busy")
        elif self._server.chance(REFUSED_RECIPIENTS):
            self._say("451 4.3.0 not now")
        else:
            self._recipient = recipient
            self._server.busy_mailboxes.add(recipient)
            self._say("250 2.1.5 ok")

    def hold(self, released: asyncio.Event) -> None:
        """Do not answer the present dot before that."""
        self._held_until = released
        self._server.record.write(Kind.HELD, self.number, address=self._recipient)

    def forget_transaction(self) -> None:
        """Let others write to the mailbox."""
        self._server.busy_mailboxes.discard(self._recipient)
        self._recipient = ""

    async def _data(self) -> None:
        if not self._recipient:
            self._say("503 5.5.1 no valid recipients")
            return
        self._say("354 go on")
        message = await self._reader.readuntil(b"\r\n.\r\n")
        self._server.at_dot.add(self)
        try:
            await self._answer(message)
        finally:
            self._server.at_dot.discard(self)

    async def _answer(self, message: bytes) -> None:
        """Answer the dot: accept, refuse for now, or close the connection."""
        await self._delay()
        if self._server.chance(REFUSED_MESSAGES):
            self.forget_transaction()
            self._say("451 4.3.0 not now")
            return
        is_cut = self._server.chance(CUT_CONNECTIONS)
        if not is_cut or self._server.chance(0.5):
            digest = hashlib.sha256(message).hexdigest()[:16]
            self._server.record.write(Kind.ACCEPTED, self.number, address=self._recipient, digest=digest)
            await self._delay()
        if is_cut:
            self.is_over = True
            self._server.record.write(Kind.CUT, self.number)
            raise Gone
        self.forget_transaction()
        self._say("250 2.0.0 accepted")

    def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())

    async def _line(self) -> str:
        line = await self._reader.readuntil(b"\r\n")
        return line.decode("ascii", "replace").strip()

    async def _delay(self) -> None:
        await asyncio.sleep(self._server.random.uniform(0, LONGEST_DELAY / 2))
        if self._held_until is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_HOLD):
                    await self._held_until.wait()
            self._held_until = None


async def main() -> None:
    """Serve until a signal ends the process: every line is in the file already."""
    die_with_parent()
    port, path, seed = sys.argv[1:]
    server = Server(Recorder(Path(path)), Random(seed))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", int(port), limit=1 << 20, backlog=256)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, server.hold)
    loop.add_signal_handler(signal.SIGUSR2, server.release)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
