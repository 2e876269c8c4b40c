"""Lists whose rows may be large: a page ends before it outgrows a gRPC message."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message

from mailer.database.types import from_microseconds, to_microseconds
from mailer.pagination import Key, Page
from mailer.validation import Violations

Row = TypeVar("Row")
M = TypeVar("M", bound=Message)

MOST_BYTES = 3 * 1024 * 1024
"""Leaves room below the 4 MiB that clients accept."""


def fill(
    page: Page, rows: Iterable[Row], key: Callable[[Row], Key], message: Callable[[Row], M]
) -> tuple[list[M], str]:
    """Return the messages of the page's rows, as many as fit, and the token of the next page.

    Rows are taken one by one, so that a lazy source reads no more than what is shown.
    """
    shown: list[M] = []
    size = 0
    last: Row | None = None
    for row in rows:
        one = message(row)
        size += one.ByteSize()
        if last is not None and (len(shown) == page.size or size > MOST_BYTES):
            return shown, replace(page, size=1).cut([last, row], key)[1]
        shown.append(one)
        last = row
    return shown, ""


def instant_key(instant: datetime, row_id: str) -> Key:
    """Return the sort key of a row in a list by time."""
    return to_microseconds(instant), row_id


def after_instant(page: Page, violations: Violations) -> tuple[datetime, str] | None:
    """Return behind which instant and id the page begins; a token that was tampered with is noted."""
    if page.after is None:
        return None
    microseconds, row_id = page.after
    if isinstance(microseconds, int) and isinstance(row_id, str):
        try:
            return from_microseconds(microseconds), row_id
        except OverflowError:
            pass
    violations.add("page_token", "pass next_page_token of the page before, or nothing for the first page")
    return None


def after_text(page: Page, violations: Violations) -> tuple[str, str] | None:
    """Return behind which name and id the page begins; a token that was tampered with is noted."""
    if page.after is None:
        return None
    name, row_id = page.after
    if isinstance(name, str) and isinstance(row_id, str):
        return name, row_id
    violations.add("page_token", "pass next_page_token of the page before, or nothing for the first page")
    return None
