import base64
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.pagination import MAX_PAGE_SIZE, read_page
from mailer.validation import Violations

ROWS = [(f"row-{number:02}", number) for number in range(7)]


def walk(page_size: int) -> Iterator[list[tuple[str, int]]]:
    token = ""
    while True:
        page = read_page(page_size, token, Violations(), method="List", filters=["PENDING"], key=(str, int))
        rows = [row for row in ROWS if page.after is None or row > page.after][: page.limit]
        shown, token = page.cut(rows, key=lambda row: row)
        yield list(shown)
        if not token:
            return


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 8, 50])
def test_pages_put_together_are_the_list(page_size: int) -> None:
    pages = list(walk(page_size))
    assert [row for page in pages for row in page] == ROWS
    assert all(len(page) == page_size for page in pages[:-1])
    assert pages[-1]


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (1000, 1000), (100_000, MAX_PAGE_SIZE)])
def test_sizes(asked: int, given_: int) -> None:
    assert read_page(asked, "", Violations(), method="List").size == given_


def test_a_negative_size_is_refused() -> None:
    found = Violations()
    read_page(-1, "", found, method="List")
    assert [violation.field for violation in found] == ["page_size"]


def token_for(method: str, filters: list[str]) -> str:
    _, token = read_page(1, "", Violations(), method=method, filters=filters, key=(int,)).cut(
        [1, 2], lambda row: (row,)
    )
    return token


def refused(
    token: str,
    *,
    method: str = "List",
    filters: tuple[str, ...] = ("A",),
    key: tuple[type[str] | type[int], ...] = (int,),
) -> bool:
    found = Violations()
    page = read_page(1, token, found, method=method, filters=filters, key=key)
    return bool(found) and page.after is None


def test_a_token_works_for_its_own_list_only() -> None:
    token = token_for("List", ["A"])
    assert not refused(token)
    assert refused(token, filters=("B",))
    assert refused(token, method="ListOthers")
    assert refused(token, key=(int, int))
    assert refused(token, key=(str,))


@pytest.mark.parametrize("part", [2**63, -(2**63) - 1, None, True, "1", "\ud800", "a\0b", [1]])
@pytest.mark.parametrize("kind", [int, str])
def test_a_forged_key_that_no_database_takes_is_refused(part: object, kind: type[int] | type[str]) -> None:
    padded = token_for("List", ["A"])
    parts = json.loads(base64.urlsafe_b64decode(padded + "=" * (-len(padded) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps([parts[0], part]).encode()).decode()
    assert refused(forged, key=(kind,)) == (part != "1" or kind is int)


@given(st.text(min_size=1))
def test_nonsense_is_refused_and_nothing_worse(token: str) -> None:
    assert refused(token)
