"""Checks that methods of several services share: ids and reasons as they come in."""

import re

from mailer.message.characters import CONTROLS
from mailer.validation import Violations, check_request_id

MOST_REASON_CHARACTERS = 500

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def check_id(value: str, violations: Violations, *, field: str, required: bool = True) -> None:
    """Note an id that is missing or cannot be one."""
    if not value:
        if required:
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


def check_reason(value: str, violations: Violations, *, field: str = "reason") -> None:
    """Note a reason that is too long to be kept, or that would break the line of whoever prints it."""
    if CONTROLS.search(value):
        violations.add(field, "has control characters: write it in one line")
    if len(value) > MOST_REASON_CHARACTERS:
        violations.add(field, f"has {len(value)} characters: use at most {MOST_REASON_CHARACTERS}")
