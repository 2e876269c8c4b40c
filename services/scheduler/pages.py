"""Lists that are sorted by time."""

from datetime import datetime

from mailer.database.types import from_microseconds, to_microseconds
from mailer.pagination import Key, Page
from mailer.validation import Violations


def instant_key(instant: datetime, row_id: str) -> Key:
    """Return the sort key of a row in a list by time."""
    return to_microseconds(instant), row_id


def after_instant(page: Page, violations: Violations) -> tuple[datetime, str] | None:
    """Return behind which instant and id the page begins; a token that was tampered with is noted."""
    if page.after is None:
        return None
    microseconds, row_id = page.after
    try:
        return from_microseconds(microseconds), row_id
    except OverflowError:
        violations.add("page_token", "pass next_page_token of the page before, or nothing for the first page")
        return None
