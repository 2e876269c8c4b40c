"""One connection of the scripted SMTP server: reads commands, follows the scripts."""

import asyncio
import base64
import hmac
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Protocol

from services.sender.account import TlsMode
from tests.fakes.certificates import Certificate
from tests.fakes.smtp_steps import (
    DEFAULT,
    Accept,
    Answer,
    Default,
    Drop,
    Early,
    Hang,
    Mail,
    Raw,
    Reset,
    Script,
    Session,
    Step,
    Trickle,
    Until,
)


class Closed(Exception):
    """The connection is over."""


class House(Protocol):
    """What a connection needs of its server."""

    tls_mode: TlsMode
    extensions: Sequence[str]
    mechanisms: Sequence[str]
    credentials: Mapping[str, str]
    data_without_recipients: bool
    certificate: Certificate | None
    accepted: list[Mail]
    commands: list[str]
    login_count: int

    def script_for(self, stage: str) -> Script:
        """Return what happens at the stage now."""
        ...

    def changed(self) -> None:
        """Hear that something has happened."""
        ...


class Connection:
    """One connection."""

    def __init__(
        self, house: House, session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Take a connection that has just been made."""
        self._house = house
        self._session = session
        self._reader = reader
        self._writer = writer
        self._in = bytearray()
        self._out = bytearray()
        self._early: list[Early] = []

    async def run(self) -> None:
        """Serve until the end; raises Closed, or what the network raises."""
        await self._act("GREETING", "", "220 fake.test ESMTP")
        while True:
            line = await self._line()
            self._house.commands.append(line)
            self._house.changed()
            verb, _, argument = line.partition(" ")
            command = getattr(self, f"_on_{verb.lower()}", None)
            if command is None:
                self._say("500 5.5.2 what")
            else:
                await command(argument)

    async def write(self, data: bytes) -> None:
        """Write at once."""
        self._out += data
        await self._flush()

    def drop(self) -> None:
        """Close."""
        self._writer.close()

    def abort(self) -> None:
        """Close without waiting for the goodbye of TLS."""
        self._writer.transport.abort()

    # Commands

    async def _on_ehlo(self, argument: str) -> None:
        self._clear()
        words = ["fake.test", *self._house.extensions]
        if self._house.tls_mode is TlsMode.STARTTLS and not self._session.is_secure:
            words.append("STARTTLS")
        elif self._house.credentials:
            words.append("AUTH " + " ".join(self._house.mechanisms))
        lines = [f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]
        await self._act("EHLO", argument, "\n".join(lines))

    async def _on_helo(self, argument: str) -> None:
        self._clear()
        await self._act("HELO", argument, "250 fake.test")

    async def _on_starttls(self, argument: str) -> None:
        if await self._act("STARTTLS", argument, "220 2.0.0 ready") == "220":
            await self._flush()
            self._in.clear()
            assert self._house.certificate is not None
            await self._writer.start_tls(self._house.certificate.server)
            self._session.is_secure = True

    async def _on_auth(self, argument: str) -> None:
        self._house.login_count += 1
        script = self._house.script_for("AUTH")
        if script is not DEFAULT:
            await self._follow(script, argument, "")
            return
        mechanism, _, initial = argument.partition(" ")
        username, is_right = await self._credentials(mechanism.upper(), initial)
        if is_right:
            self._session.username = username
        self._say("235 2.7.0 welcome" if is_right else "535 5.7.8 bad credentials")

    async def _credentials(self, mechanism: str, initial: str) -> tuple[str, bool]:
        """Return who it is, and whether it is true."""
        if mechanism == "CRAM-MD5":
            challenge = f"<{self._session.connection}@fake.test>"
            username, _, digest = (await self._challenge(challenge)).partition(" ")
            password = self._house.credentials.get(username, "")
            expected = hmac.new(password.encode(), challenge.encode(), "md5").hexdigest()
            return username, hmac.compare_digest(expected, digest)
        if mechanism == "PLAIN":
            _, username, password = _decoded(initial).split("\0")
        else:
            username = _decoded(initial) if initial else await self._challenge("Username:")
            password = await self._challenge("Password:")
        return username, self._house.credentials.get(username) == password

    async def _challenge(self, text: str) -> str:
        self._say(f"334 {base64.b64encode(text.encode()).decode()}")
        return _decoded(await self._line())

    async def _on_mail(self, argument: str) -> None:
        default = "250 2.1.0 ok" if self._session.sender is None else "503 5.5.1 nested MAIL"
        if await self._act("MAIL", argument, default) == "250":
            self._session.sender = path_of(argument)

    async def _on_rcpt(self, argument: str) -> None:
        default = "250 2.1.5 ok" if self._session.sender is not None else "503 5.5.1 need MAIL"
        if (await self._act("RCPT", argument, default)).startswith("25"):
            self._session.recipients.append(path_of(argument))

    async def _on_data(self, argument: str) -> None:
        session = self._session
        is_lax = self._house.data_without_recipients and session.sender is not None
        default = "354 go on" if session.recipients or is_lax else "503 5.5.1 no valid recipients"
        if await self._act("DATA", argument, default) != "354":
            return
        script = self._house.script_for("BODY")
        if script is not DEFAULT:
            await self._follow(script, "", "")
        session.content = await self._body()
        number = len(self._house.accepted) + 1
        default = f"250 2.0.0 queued as {number}" if session.recipients else "554 5.5.1 no valid recipients"
        await self._act("DOT", "", default)
        self._clear()

    async def _on_rset(self, argument: str) -> None:
        self._clear()
        await self._act("RSET", argument, "250 2.0.0 ok")

    async def _on_noop(self, argument: str) -> None:
        await self._act("NOOP", argument, "250 2.0.0 ok")

    async def _on_quit(self, argument: str) -> None:
        await self._act("QUIT", argument, "221 2.0.0 bye")
        await self._flush()
        raise Closed

    def _clear(self) -> None:
        self._session.sender, self._session.content = None, b""
        self._session.recipients.clear()
        self._early.clear()

    # Scripts

    async def _act(self, stage: str, argument: str, default: str) -> str:
        """Do what the script says, and return the code of the last reply."""
        return await self._follow(self._house.script_for(stage), argument, default, is_dot=stage == "DOT")

    async def _follow(self, script: Script, argument: str, default: str, *, is_dot: bool = False) -> str:
        answer: Answer = script(self._session, argument) if callable(script) else script
        code = ""
        for step in [answer] if isinstance(answer, Step) else answer:
            code = await self._do(default if step is DEFAULT else step, is_dot=is_dot) or code
        return code

    async def _do(self, step: Step, *, is_dot: bool) -> str:
        """Do one step; the code of the reply, if it was one."""
        match step:
            case str() | Trickle() | Raw():
                return await self._reply(step, is_dot=is_dot)
            case Accept():
                self._accept()
            case Early():
                self._early.append(step)
            case Drop() | Reset() | Hang() | Until():
                await self._flush()
                await self._stop(step)
            case Default():
                raise ValueError("there is nothing the server would do here anyway")
        return ""

    async def _reply(self, step: str | Trickle | Raw, *, is_dot: bool) -> str:
        if isinstance(step, Raw):
            self._out += step.data
            return step.data[:3].decode("ascii", "replace")
        text = step.reply if isinstance(step, Trickle) else step
        if is_dot and text.startswith("2"):
            self._accept()
        if isinstance(step, str):
            self._say(text)
        else:
            for byte in wire_form(text):
                await self.write(bytes([byte]))
                await _turn()
        return text[:3]

    async def _stop(self, step: Drop | Reset | Hang | Until) -> None:
        match step:
            case Until(event):
                await event.wait()
            case Hang():
                await asyncio.get_running_loop().create_future()
            case Drop():
                raise Closed
            case Reset():
                linger = struct.pack("ii", 1, 0)
                self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self._writer.transport.abort()
                raise Closed

    def _accept(self) -> None:
        session = self._session
        self._house.accepted.append(
            Mail(
                session.sender or "",
                tuple(session.recipients),
                session.content,
                session.connection,
                session.username,
            )
        )
        self._house.changed()

    # Bytes

    def _say(self, text: str) -> None:
        self._out += wire_form(text)

    async def _flush(self) -> None:
        data, self._out = bytes(self._out), bytearray()
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def _fill(self) -> None:
        """Read more; like real servers, answer everything before, in one packet."""
        await self._flush()
        data = await self._reader.read(65_536)
        if not data:
            raise Closed
        self._in += data

    async def _line(self) -> str:
        while b"\r\n" not in self._in:
            await self._fill()
        line, _, rest = bytes(self._in).partition(b"\r\n")
        self._in = bytearray(rest)
        return line.decode("utf-8", "replace")

    async def _body(self) -> bytes:
        """Return what comes before the dot, with the doubled dots single again."""
        searched = 0
        while (end := self._end_of_body(searched)) is None:
            searched = len(self._in)
            await self._fill()
        content = bytes(self._in[:end])
        del self._in[: end + len(b".\r\n")]
        return b"\r\n".join(line.removeprefix(b".") for line in content.split(b"\r\n"))

    def _end_of_body(self, searched: int) -> int | None:
        """Return where the dot is, if it has come; speak early where a script wants it."""
        while self._early and len(self._in) >= self._early[0].after_bytes:
            self._say(self._early.pop(0).reply)
        if self._in.startswith(b".\r\n"):
            return 0
        found = self._in.find(b"\r\n.\r\n", max(searched - 4, 0))
        return found + 2 if found >= 0 else None


def path_of(argument: str) -> str:
    """Return the address between the angle brackets."""
    return argument.partition("<")[2].partition(">")[0]


def wire_form(text: str) -> bytes:
    """Return the bytes of a reply."""
    return text.replace("\n", "\r\n").encode() + b"\r\n"


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


async def _turn() -> None:
    """Let the event loop go round once."""
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn
