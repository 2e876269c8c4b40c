"""What an exception of aiosmtplib means, as an incident that tells no secrets."""

import re
import ssl
from collections.abc import Iterable, Iterator

import aiosmtplib

from services.sender.replies import Event, Incident, Reply, Stage

_CODES = range(200, 600)  # RFC 5321 4.2.1; aiosmtplib gives -1 to bytes that are no reply, and passes on what is none
_MASK = "***"


def incident_of(error: BaseException, *, stage: Stage, secrets: Iterable[str]) -> Incident:
    """Return what happened at the stage. Whatever of the secrets the server repeats is masked."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Incident(
                Stage.TLS_HANDSHAKE, event=Event.CERTIFICATE_INVALID, detail=cause.verify_message or str(cause)
            )
        if isinstance(cause, ssl.SSLError):
            return Incident(Stage.TLS_HANDSHAKE, event=Event.TLS_FAILED, detail=cause.reason or str(cause))
    stage = _sharper(stage, error)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = masked(_readable(error.message), secrets)
        if error.code not in _CODES:
            return Incident(stage, event=Event.GARBAGE, detail=_printable(text))
        return Incident(stage, Reply(error.code, tuple(text.split("\n"))))
    if isinstance(error, TimeoutError):
        return Incident(stage, event=Event.TIMEOUT)
    return Incident(stage, event=Event.CONNECTION_LOST)


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return the text without the secrets, in whatever case they are repeated."""
    found = "|".join(re.escape(secret) for secret in sorted(secrets, key=len, reverse=True) if secret)
    return re.sub(found, _MASK, text, flags=re.IGNORECASE) if found else text


def _sharper(stage: Stage, error: BaseException) -> Stage:
    """Return the stage, told from the exception where one call of aiosmtplib goes through several."""
    if stage is Stage.TLS_HANDSHAKE:  # then the greeting
        came_through = isinstance(error, aiosmtplib.SMTPResponseException)
        return Stage.GREETING if came_through or isinstance(error.__cause__, aiosmtplib.SMTPException) else stage
    return stage


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _readable(text: str) -> str:
    """Return the text without the surrogates in which aiosmtplib keeps bytes that are no UTF-8: nobody stores them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:200])
