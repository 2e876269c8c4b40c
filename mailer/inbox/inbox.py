"""The inbox as a whole: one folder, any number of listeners."""

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from mailer.clock import Clock, SystemClock
from mailer.inbox.listener import Listener
from mailer.inbox.mailbox import Mailbox
from mailer.inbox.session import Credentials
from mailer.secrets import Secret

DEFAULT_PORT = 1025


class Inbox:
    """Keeps what its listeners accept. `async with` opens and closes them all."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """Keep mail in the directory (created when missing), beside what is there already."""
        self.directory = directory
        self._clock = clock
        self._mailbox = Mailbox(directory, clock)
        self._listeners: dict[str, Listener] = {}
        self._exits = AsyncExitStack()

    def add(
        self,
        name: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        user: str = "",
        password: Secret | None = None,
        tls: ssl.SSLContext | None = None,
        delay: float = 0.0,
    ) -> Listener:
        """Add a listener before the inbox is opened.

        `name` is unique and goes into file names; port 0 takes a free one. With `user` and `password` it
        accepts mail only after AUTH; with `tls` it offers STARTTLS. `delay` is in seconds, before each 250.
        """
        if name in self._listeners:
            raise ValueError(f"listener name {name!r} is taken")
        credentials = Credentials(user, password) if user and password is not None else None
        listener = Listener(
            name,
            host=host,
            port=port,
            mailbox=self._mailbox,
            clock=self._clock,
            credentials=credentials,
            tls=tls,
            delay=delay,
        )
        self._listeners[name] = listener
        return listener

    def listener(self, name: str) -> Listener:
        """Return the listener of that name; raises KeyError when there is none."""
        return self._listeners[name]

    async def __aenter__(self) -> Self:
        """Open all listeners; raises OSError when a port is taken, with none left open."""
        # At INFO aiosmtpd logs every command of every client.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        async with AsyncExitStack() as exits:
            exits.callback(self._mailbox.close)
            for listener in self._listeners.values():
                await listener.open()
                exits.push_async_callback(listener.close)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all listeners and the journal."""
        await self._exits.aclose()


def run(
    *,
    directory: Path,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    user: str = "",
    password: Secret | None = None,
    on_ready: Callable[[Listener], None] | None = None,
) -> None:
    """Run an inbox with one listener until SIGINT or SIGTERM.

    `on_ready` is called once it listens. Raises OSError when the port is taken or the directory cannot be
    written.
    """
    inbox = Inbox(directory, SystemClock())
    listener = inbox.add("inbox", host=host, port=port, user=user, password=password)
    asyncio.run(_run_until_stopped(inbox, listener, on_ready))


async def _run_until_stopped(inbox: Inbox, listener: Listener, on_ready: Callable[[Listener], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with inbox:
        if on_ready is not None:
            on_ready(listener)
        await stop.wait()
