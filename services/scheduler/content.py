"""What templates and campaigns send: checked when it comes in, kept as it travels."""

from dataclasses import dataclass

from mailer.message_wire import read_content
from mailer.v1 import sender_pb2
from mailer.validation import Violations


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
    return CheckedContent(message.SerializeToString(deterministic=True), tuple(sorted(content.required_variables)))


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
