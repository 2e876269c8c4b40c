"""Checks that several of the scheduler's methods share."""

import re
from collections.abc import Iterable

from google.protobuf.message import Message

from mailer.message.characters import CONTROLS
from mailer.validation import Violations, check_request_id

MOST_REASON_CHARACTERS = 500

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def check_id(value: str, violations: Violations, *, field: str) -> None:
    """Note an id that is missing or cannot be one."""
    if not value:
        violations.add(field, "is missing: name one")
    elif not _ID.fullmatch(value):
        violations.add(field, "is no id: use 1 to 64 letters, digits, dots, colons, hyphens or underscores")


def require_id(value: str, *, field: str) -> str:
    """Return the id of a request that has nothing else to check. Raises InvalidArgument."""
    violations = Violations()
    check_id(value, violations, field=field)
    violations.raise_if_any()
    return value


def check_new_request_id(value: str, violations: Violations) -> None:
    """Note a request_id that is missing or cannot be one: without it a repeated call would act twice."""
    if value:
        check_request_id(value, violations)
    else:
        violations.add("request_id", "is missing: make one per call, such as a UUID, and repeat it when you retry")


def check_name(value: str, violations: Violations, *, field: str, most: int) -> None:
    """Note a name for people that is missing, too long or has control characters."""
    if not value.strip():
        violations.add(field, f"is missing: give it a name of 1 to {most} characters")
    elif len(value) > most:
        violations.add(field, f"has {len(value)} characters: use at most {most}")
    elif CONTROLS.search(value):
        violations.add(field, "contains a line break or another control character: remove it")


def check_reason(value: str, violations: Violations, *, field: str = "reason") -> None:
    """Note a reason that is too long to be kept."""
    if len(value) > MOST_REASON_CHARACTERS:
        violations.add(field, f"has {len(value)} characters: use at most {MOST_REASON_CHARACTERS}")


def refuse_output_only(message: Message, names: Iterable[str], violations: Violations, *, prefix: str) -> None:
    """Note fields that only the server sets; a client that fills them means something we would not do."""
    given = {descriptor.name for descriptor, _ in message.ListFields()}
    for name in names:
        if name in given:
            violations.add(f"{prefix}.{name}", "is set by the server: leave it out")
