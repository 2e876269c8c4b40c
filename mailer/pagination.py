"""Lists in pages: an opaque token says where the next page starts and for which list it was made."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from mailer.validation import Violations

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000

Row = TypeVar("Row")
M = TypeVar("M", bound=Message)
Key = tuple[Any, ...]

MOST_BYTES = 3 * 1024 * 1024
"""What the rows of a page may weigh together: leaves room below the 4 MiB that clients accept."""


@dataclass(frozen=True, slots=True)
class Page:
    """What part of a list was asked for.

    Read `limit` rows behind the sort key `after` (None: from the start), then `cut` them: the one row too
    many tells whether there is a next page.
    """

    size: int
    after: Key | None
    scope: str

    @property
    def limit(self) -> int:
        """Return how many rows to read: one more than are shown."""
        return self.size + 1

    def cut(self, rows: Sequence[Row], key: Callable[[Row], Key]) -> tuple[Sequence[Row], str]:
        """Return the rows to show and the token of the next page ("" after the last one)."""
        shown = rows[: self.size]
        if len(rows) <= self.size or not shown:
            return shown, ""
        return shown, _encode(key(shown[-1]), self.scope)

    def fill(self, rows: Iterable[Row], key: Callable[[Row], Key], message: Callable[[Row], M]) -> tuple[list[M], str]:
        """Return the messages of the rows to show, as many as fit into an answer, and the token of the next page.

        Rows are taken one by one, so that a lazy source reads no more than what is shown.
        """
        shown: list[M] = []
        size = 0
        last: Row | None = None
        for row in rows:
            one = message(row)
            size += one.ByteSize()
            if last is not None and (len(shown) == self.size or size > MOST_BYTES):
                return shown, _encode(key(last), self.scope)
            shown.append(one)
            last = row
        return shown, ""


def read_page(
    page_size: int,
    page_token: str,
    violations: Violations,
    *,
    method: str,
    filters: Sequence[Any] = (),
    key: tuple[type[str] | type[int], ...] = (str,),
) -> Page:
    """Return the page asked for.

    `filters` are the values that choose the rows: a token is refused where they differ from those it was
    made for. `key` are the types of the sort key's parts. 0 rows mean 50; more than 1000 are cut to 1000.
    """
    scope = _scope(method, filters)
    if page_size < 0:
        violations.add("page_size", f"use 1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}")
    size = min(page_size, MAX_PAGE_SIZE) if page_size > 0 else DEFAULT_PAGE_SIZE
    after = None
    if page_token:
        after = _decode(page_token, scope, key)
        if after is None:
            violations.add(
                "page_token",
                "pass next_page_token of the page before with the same filter, or nothing for the first page",
            )
    return Page(size, after, scope)


def _scope(method: str, filters: Sequence[Any]) -> str:
    text = json.dumps([method, *filters], default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encode(key: Key, scope: str) -> str:
    text = json.dumps([scope, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _decode(token: str, scope: str, key: tuple[type[str] | type[int], ...]) -> Key | None:
    try:
        parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    if not isinstance(parts, list) or [type(part) for part in parts] != [str, *key] or parts[0] != scope:
        return None
    return tuple(parts[1:]) if all(_is_storable(part) for part in parts) else None


def _is_storable(part: str | int) -> bool:
    """Say whether databases take it: a forged token must not become an error of the driver."""
    if isinstance(part, int):
        return -(2**63) <= part < 2**63
    return "\0" not in part and not any("\ud800" <= character <= "\udfff" for character in part)
