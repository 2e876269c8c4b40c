"""What writers note of their waits, and what of it belongs to a span of time."""

import asyncio
from pathlib import Path

from benchmarks.diary import Act, Span, line, read_acts
from benchmarks.traffic import keep_on
from mailer.database import DatabaseBusy

BEFORE, INTO, INSIDE, ACROSS, OUT_OF, AFTER = (
    Act(0.0, 0.9, 0),
    Act(0.5, 1.5, 0),
    Act(1.2, 1.3, 0),
    Act(0.5, 3.0, 2),
    Act(1.9, 2.5, 0),
    Act(2.1, 2.2, 0),
)
ALL = [BEFORE, INTO, INSIDE, ACROSS, OUT_OF, AFTER]


def test_a_wait_counts_that_began_before_or_ended_after_what_is_measured() -> None:
    assert Span(1.0, 2.0).touched_by(ALL) == [INTO, INSIDE, ACROSS, OUT_OF]


def test_a_write_is_acknowledged_where_it_ends() -> None:
    assert Span(1.0, 2.0).done_in(ALL) == [INTO, INSIDE]


def test_a_line_that_is_half_written_is_left_for_later(tmp_path: Path) -> None:
    diary = tmp_path / "writer.txt"
    diary.write_text(line(ACROSS) + line(AFTER)[:-1], encoding="ascii")
    assert read_acts(diary) == [ACROSS]


async def test_what_was_refused_is_tried_again_and_has_waited_since_the_first_try(tmp_path: Path) -> None:
    told, tries = asyncio.Event(), list[int]()

    async def attempt(number: int) -> None:
        tries.append(number)
        if len(tries) < 3:
            await asyncio.sleep(0.02)
            raise DatabaseBusy("somebody else writes")
        told.set()

    await keep_on(attempt, tmp_path / "writer.txt", told)
    (act,) = read_acts(tmp_path / "writer.txt")
    assert (tries, act.refused) == ([0, 0, 0], 2)
    assert act.seconds >= 0.04
