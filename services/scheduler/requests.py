"""Checks that several of the scheduler's methods share."""

from collections.abc import Iterable

from google.protobuf.message import Message

from mailer.message.characters import CONTROLS
from mailer.validation import Violations


def check_name(value: str, violations: Violations, *, field: str, most: int) -> None:
    """Note a name for people that is missing, too long or has control characters."""
    if not value.strip():
        violations.add(field, f"is missing: give it a name of 1 to {most} characters")
    elif len(value) > most:
        violations.add(field, f"has {len(value)} characters: use at most {most}")
    elif CONTROLS.search(value):
        violations.add(field, "contains a line break or another control character: remove it")


def refuse_output_only(message: Message, names: Iterable[str], violations: Violations, *, prefix: str) -> None:
    """Note fields that only the server sets; a client that fills them means something we would not do."""
    given = {descriptor.name for descriptor, _ in message.ListFields()}
    for name in names:
        if name in given:
            violations.add(f"{prefix}.{name}", "is set by the server: leave it out")
