"""What an SMTP server can be told to do; the list is in `smtp_server`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Default(Enum):
    """What the server does when nobody says otherwise."""

    DEFAULT = "default"


DEFAULT = Default.DEFAULT


@dataclass(frozen=True)
class Raw:
    """Bytes as they are."""

    data: bytes


@dataclass(frozen=True)
class Trickle:
    """A reply, one byte per packet."""

    reply: str


@dataclass(frozen=True)
class Accept:
    """The message is delivered."""


@dataclass(frozen=True)
class Early:
    """A reply in the middle of the body."""

    reply: str
    after_bytes: int = 1


@dataclass(frozen=True)
class Drop:
    """The connection is closed."""


@dataclass(frozen=True)
class Reset:
    """The connection is reset."""


@dataclass(frozen=True)
class Hang:
    """Nothing happens any more."""


@dataclass(frozen=True)
class Until:
    """Nothing happens until somebody sets the event."""

    event: asyncio.Event


Step = str | Default | Raw | Trickle | Accept | Early | Drop | Reset | Hang | Until
Answer = Step | Sequence[Step]
Script = Answer | Callable[["Session", str], Answer]


@dataclass(frozen=True)
class Mail:
    """A message the server accepted; `content` as the client meant it, without doubled dots."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    connection: int
    username: str


@dataclass
class Session:
    """What the server knows of one connection; connections count from 1."""

    connection: int
    is_secure: bool = False
    username: str = ""
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)
    content: bytes = b""
