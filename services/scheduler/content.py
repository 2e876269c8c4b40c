"""What templates and campaigns send: checked when it comes in, kept as it travels."""

from dataclasses import dataclass

from mailer.message_wire import read_content
from mailer.v1 import sender_pb2
from mailer.validation import Violations

MOST_MESSAGE_BYTES = 4 * 1024 * 1024 - 64 * 1024
"""What content and recipients of a batch may weigh: a gRPC message, without the fields around them."""
LEAST_BATCH_BYTES = 24 * 1024
"""Room for recipients that every content leaves: one with 16 KiB of variables always fits."""
MOST_CONTENT_BYTES = MOST_MESSAGE_BYTES - 2 * LEAST_BATCH_BYTES


@dataclass(frozen=True, slots=True)
class CheckedContent:
    """A content that can be sent: serialized, and the variables every recipient must have."""

    serialized: bytes
    required_variables: tuple[str, ...]


def check_content(message: sender_pb2.MessageContent, violations: Violations, *, field: str) -> CheckedContent | None:
    """Return the content to be stored; None when something is wrong with it, which is noted then."""
    content = read_content(message, violations, field=field)
    if content is None:
        return None
    serialized = message.SerializeToString(deterministic=True)
    if len(serialized) > MOST_CONTENT_BYTES:
        violations.add(
            field, f"has {len(serialized)} bytes with its files, at most {MOST_CONTENT_BYTES} travel: make it smaller"
        )
        return None
    return CheckedContent(serialized, tuple(sorted(content.required_variables)))


def content_paths(prefix: str = "content") -> tuple[str, ...]:
    """Return what an update mask may say about a content."""
    names = sender_pb2.MessageContent.DESCRIPTOR.fields_by_name
    return (prefix, *(f"{prefix}.{name}" for name in names))


def merge(
    stored: bytes, given: sender_pb2.MessageContent, paths: frozenset[str], *, prefix: str = "content"
) -> sender_pb2.MessageContent:
    """Return the stored content with the parts that the mask names taken from the given one."""
    if prefix in paths:
        return given
    merged = sender_pb2.MessageContent.FromString(stored)
    chosen = sender_pb2.MessageContent()
    chosen.CopyFrom(given)
    for name in sender_pb2.MessageContent.DESCRIPTOR.fields_by_name:
        if f"{prefix}.{name}" in paths:
            merged.ClearField(name)  # type: ignore[arg-type]
        else:
            chosen.ClearField(name)  # type: ignore[arg-type]
    merged.MergeFrom(chosen)
    return merged
