"""One port of the inbox: it plays one SMTP account, and fails when it is told to."""

import asyncio
import re
import ssl
from datetime import datetime

from mailer.clock import Clock
from mailer.inbox.mailbox import Mailbox
from mailer.inbox.session import Credentials, Session

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class Listener:
    """Listens on one port while the inbox is open. Made by `Inbox.add`."""

    def __init__(
        self,
        name: str,
        *,
        host: str,
        port: int,
        mailbox: Mailbox,
        clock: Clock,
        credentials: Credentials | None,
        tls: ssl.SSLContext | None,
        delay: float,
    ) -> None:
        """Remember how to listen; raises ValueError for a name that cannot be part of a file's name."""
        if NAME_PATTERN.fullmatch(name) is None:
            raise ValueError(f"listener name {name!r}: use up to 32 lower-case letters, digits and hyphens")
        self.name = name
        self.host = host
        self.port = port
        """The port; with 0 the one that the system chose, once the inbox is open."""
        self.mailbox = mailbox
        self.clock = clock
        self.credentials = credentials
        self.tls = tls
        self.delay = delay
        """Seconds between a message's storage and the 250; may be changed at any time."""
        self.connection_count = 0
        self._fails_until: datetime | None = None
        self._server: asyncio.Server | None = None
        self._sessions: set[Session] = set()

    def fail(self, *, until: datetime) -> None:
        """Answer 421 to greetings and to the next MAIL of open connections, until the instant or `recover`.

        A message on its way is still accepted: what the inbox stored it has answered for.
        """
        self._fails_until = until

    def recover(self) -> None:
        """Work again."""
        self._fails_until = None

    @property
    def failing(self) -> bool:
        """Say whether it answers 421 now."""
        return self._fails_until is not None and self.clock.now() < self._fails_until

    async def open(self) -> None:
        """Listen; after `close` on the same port again."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_session, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse connections and end the open ones; what was not yet answered was not accepted."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for session in tuple(self._sessions):
            session.end()
        await asyncio.gather(*(session.ended.wait() for session in tuple(self._sessions)))

    def _new_session(self) -> Session:
        self.connection_count += 1
        session = Session(self, number=self.connection_count, on_end=self._sessions.discard)
        self._sessions.add(session)
        return session
