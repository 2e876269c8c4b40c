"""What a service says when it cannot do what was asked: one class per kind, each with a stable reason.

Servicers and stores raise these; one interceptor turns them into google.rpc.Status. Messages are for people
and name the cure; reasons (UPPER_SNAKE_CASE) are for programs and never change.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from urllib.parse import quote

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from mailer.wire import to_duration

DOMAIN = "mailer.v1"

# An error travels in the trailers, and clients refuse trailers of more than 8 KiB: then they see none of it. The status
# is sent in base64, and its message a second time beside it.
MOST_DETAIL_BYTES = 4000
_MOST_MESSAGE_BYTES = 800  # as percent-encoded on the wire
_MOST_METADATA_BYTES = 800
_MOST_VALUE_BYTES = 300
_MOST_FIELD_BYTES = 200
_MOST_DESCRIPTION_BYTES = 400
_SENT_AS_IT_IS = "".join(map(chr, range(0x20, 0x7F)))


class Code(IntEnum):
    """Those of google.rpc.Code, and so of gRPC's status codes, that are ours to say: raising needs no grpc."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that is wrong: its path as in the request, and what to do about it."""

    field: str
    description: str


class MailerError(Exception):
    """An error that the client is meant to see."""

    def __init__(
        self,
        code: Code,
        reason: str,
        message: str,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Say what is wrong in one sentence; metadata carries its parts for programs."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})

    def details(self) -> Iterable[Message]:
        """Return the google.rpc details beside ErrorInfo."""
        return ()

    def to_status(self) -> status_pb2.Status:
        """Return the error as it travels: short enough for the trailers, saying so where something was left out."""
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN)
        for name, value in self.metadata.items():
            shown = _cut(value, _MOST_VALUE_BYTES)
            if info.ByteSize() + len(name) + len(shown.encode()) <= _MOST_METADATA_BYTES:
                info.metadata[name] = shown
        status = status_pb2.Status(code=self.code, message=_cut(self.message, _MOST_MESSAGE_BYTES))
        for detail in (info, *self.details()):
            packed = Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status


class InvalidArgument(MailerError):
    """The request can never work; names every wrong field at once."""

    def __init__(
        self, violations: Iterable[FieldViolation], *, reason: str = "INVALID_FIELDS", message: str = ""
    ) -> None:
        """Collect the violations; without a message of its own the first ones become the sentence."""
        self.violations = tuple(violations)
        super().__init__(Code.INVALID_ARGUMENT, reason, message or _sentence(self.violations))

    def details(self) -> Iterable[Message]:
        """Return BadRequest with all violations, or with as many as fit and how many there are beside them."""
        found = error_details_pb2.BadRequest()
        size = 0
        for index, wrong in enumerate(self.violations):
            one = error_details_pb2.BadRequest.FieldViolation(
                field=_cut(wrong.field, _MOST_FIELD_BYTES), description=_cut(wrong.description, _MOST_DESCRIPTION_BYTES)
            )
            size += one.ByteSize()
            if size > MOST_DETAIL_BYTES - _MOST_METADATA_BYTES:
                found.field_violations.add(field="…", description=f"and {len(self.violations) - index} more")
                break
            found.field_violations.append(one)
        return (found,)


class NotFound(MailerError):
    """The thing that was named does not exist."""

    def __init__(self, message: str, *, reason: str = "NOT_FOUND", metadata: Mapping[str, str] | None = None) -> None:
        """Say what was looked for."""
        super().__init__(Code.NOT_FOUND, reason, message, metadata)


class AlreadyExists(MailerError):
    """The thing, or an answer under this request_id, exists already."""

    def __init__(
        self, message: str, *, reason: str = "ALREADY_EXISTS", metadata: Mapping[str, str] | None = None
    ) -> None:
        """Say what exists."""
        super().__init__(Code.ALREADY_EXISTS, reason, message, metadata)


class FailedPrecondition(MailerError):
    """Not in this state: the message names the state and how to leave it."""

    def __init__(self, message: str, *, reason: str, metadata: Mapping[str, str] | None = None) -> None:
        """Say which state is in the way."""
        super().__init__(Code.FAILED_PRECONDITION, reason, message, metadata)


class Aborted(MailerError):
    """Another writer won: read again and decide anew."""

    def __init__(self, message: str, *, reason: str, metadata: Mapping[str, str] | None = None) -> None:
        """Say who won."""
        super().__init__(Code.ABORTED, reason, message, metadata)


class PermissionDenied(MailerError):
    """The caller may not do this."""

    def __init__(self, message: str, *, reason: str, metadata: Mapping[str, str] | None = None) -> None:
        """Say what is missing."""
        super().__init__(Code.PERMISSION_DENIED, reason, message, metadata)


class ResourceExhausted(MailerError):
    """Too much for now: the same request works after `retry_after`."""

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        retry_after: timedelta,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Say what is full and when to come again."""
        super().__init__(Code.RESOURCE_EXHAUSTED, reason, message, metadata)
        self.retry_after = retry_after

    def details(self) -> Iterable[Message]:
        """Return RetryInfo."""
        return (error_details_pb2.RetryInfo(retry_delay=to_duration(self.retry_after)),)


class Unavailable(MailerError):
    """Nothing was done, and the same request may work in a moment."""

    def __init__(self, message: str, *, reason: str, metadata: Mapping[str, str] | None = None) -> None:
        """Say what is away."""
        super().__init__(Code.UNAVAILABLE, reason, message, metadata)


class DataLoss(MailerError):
    """Stored data is not what it was when it was stored."""

    def __init__(self, message: str, *, reason: str, metadata: Mapping[str, str] | None = None) -> None:
        """Say what is damaged."""
        super().__init__(Code.DATA_LOSS, reason, message, metadata)


class CannotStart(Exception):
    """A process cannot start: one line per problem, each with its cure, shown without a traceback."""

    exit_code = 1

    def __init__(self, *problems: str) -> None:
        """Keep the lines to print."""
        super().__init__("\n".join(problems))
        self.problems = problems


def _cut(text: str, most_bytes: int) -> str:
    """Return the text, or as much of its beginning as fits, with dots."""
    if len(quote(text, safe=_SENT_AS_IT_IS)) <= most_bytes:
        return text
    encoded = ""
    for index, character in enumerate(text):
        encoded += quote(character, safe=_SENT_AS_IT_IS)
        if len(encoded) > most_bytes - len(quote("…")):
            return f"{text[:index]}…"
    return text


def _sentence(violations: tuple[FieldViolation, ...]) -> str:
    """Return the first violations as one sentence: many clients show nothing but the message."""
    if not violations:
        return "The request is not valid."
    shown = "; ".join(f"{wrong.field}: {wrong.description}" for wrong in violations[:3])
    more = len(violations) - 3
    return f"{shown}; and {more} more" if more > 0 else shown
