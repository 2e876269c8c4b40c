"""The end of the writer's process, whenever and however it comes, changes nothing but the speed."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from mailer.database import Database, DatabaseGone, writer_process
from mailer.errors import ResourceExhausted
from tests.fakes import portable_tasks as tasks
from tests.fakes.clock import FakeClock
from tests.fakes.writing import HERE, at_work, is_there, opened, opened_with_things, state_of, together

ROOT = Path(__file__).parents[3]
DOES_NOT_START = (
    "the process that writes the database does not start: this one writes everything, more slowly, "
    "and tries again now and then"
)


@pytest.fixture
async def things(database_url: str, clock: FakeClock) -> AsyncIterator[Database]:
    async with opened_with_things(database_url, clock) as database:
        yield database


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_a_process_that_is_killed_while_idle_is_missed_by_nobody(things: Database, clock: FakeClock) -> None:
    before = await at_work(things)
    replaced: list[bool] = []
    things.on_replaced(lambda: replaced.append(True))
    os.kill(before, signal.SIGKILL)
    assert await together(things, (tasks.add, "a"), (tasks.add, "b")) == [HERE, HERE]
    assert await at_work(things) != before
    assert await things.read(tasks.names) == ["a", "b"]
    assert things.healthy
    assert not replaced


@pytest.mark.parametrize("instant", [tasks.add_and_die, tasks.add_and_die_before_commit])
async def test_a_group_that_dies_before_its_commit_is_written_here(things: Database, instant: Any) -> None:
    await things.write(tasks.add, "before")
    there = things.writer_process_id
    results = await together(things, (tasks.add, "a"), (instant, "b", HERE), (tasks.add, "c"))
    assert results == [HERE] * 3
    assert await things.read(tasks.names) == ["before", "a", "b", "c"]
    assert things.healthy
    assert await at_work(things) != there


async def test_a_group_that_dies_after_its_commit_is_answered_and_not_written_again(things: Database) -> None:
    there = await at_work(things)
    results = await together(
        things,
        (tasks.add, "a"),
        (tasks.add_and_die_after_commit, "b", HERE),
        (tasks.add, "a"),
        (tasks.add_and_fail, "c", "exhausted"),
        (tasks.add_unfinished, "d"),
    )
    assert results[:2] == [there, there]
    assert [type(one) for one in results[2:4]] == [IntegrityError, ResourceExhausted]
    assert results[4].by == HERE, "what is done after the commit had not been done"
    assert await things.read(tasks.names) == ["a", "b", "d"]
    assert await at_work(things) != there
    assert things.healthy


async def test_where_nobody_can_tell_what_was_committed_everything_is_read_anew(things: Database) -> None:
    replaced: list[bool] = []
    things.on_replaced(lambda: replaced.append(True))
    with closing(sqlite3.connect(things.location.path, isolation_level=None)) as other:
        await things.write(tasks.add, "a")
        gone = things.location.path.with_name("elsewhere.db")

        async def lose_the_file() -> None:
            while other.execute("SELECT count(*) FROM things").fetchone()[0] < 2:
                await asyncio.sleep(0.001)
            things.location.path.rename(gone)

        assert things.writer_process_id is not None
        end = asyncio.create_task(lose_the_file())
        outcome, _ = await asyncio.gather(
            things.write(tasks.add_and_stop_after_commit, "b", HERE), _end_stopped(things, end), return_exceptions=True
        )
    assert isinstance(outcome, DatabaseGone)
    await asyncio.sleep(0)
    assert replaced == [True]
    assert not things.healthy
    gone.rename(things.location.path)
    assert await things.probe()
    assert await things.read(tasks.names) == ["a", "b"]


async def _end_stopped(database: Database, before: "asyncio.Task[None]") -> None:
    await before
    assert database.writer_process_id is not None
    os.kill(database.writer_process_id, signal.SIGKILL)


async def test_a_stopped_process_is_waited_for(things: Database) -> None:
    there = await at_work(things)
    waiting = asyncio.create_task(things.write(tasks.add_and_stop, "a", HERE))
    await until_stopped(there)
    behind = [asyncio.create_task(things.write(tasks.add_here, "b")), asyncio.create_task(things.write(tasks.add, "c"))]
    done, _ = await asyncio.wait([waiting, *behind], timeout=0.5)
    assert not done
    os.kill(there, signal.SIGCONT)
    assert await asyncio.gather(waiting, *behind) == [there, HERE, there]
    assert await things.read(tasks.names) == ["a", "b", "c"]


async def test_a_process_that_is_stopped_for_too_long_is_killed(
    database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer_process, "_ANSWER_SECONDS", 1)
    async with opened(database_url, clock, busy_timeout=timedelta(seconds=0.1)) as things:
        await things.write(tasks.create)
        there = await at_work(things)
        assert await things.write(tasks.add_and_stop, "a", HERE) == HERE
        assert not is_there(there)
        assert await things.read(tasks.names) == ["a"]
        assert "it did not answer, and was killed" in [getattr(one, "cause", "") for one in caplog.records]


async def test_the_group_that_it_has_and_the_one_behind_are_both_done_once(things: Database) -> None:
    there = await at_work(things)
    first = asyncio.create_task(things.write(tasks.add_and_stop, "a", HERE))
    await until_stopped(there)
    second = asyncio.create_task(things.write(tasks.add, "b"))
    third = asyncio.create_task(things.write(tasks.add_here, "c"))
    await asyncio.sleep(0.05)
    os.kill(there, signal.SIGKILL)
    assert set(await asyncio.gather(first, second, third)) == {HERE}
    assert await things.read(tasks.names) == ["a", "b", "c"]
    assert things.healthy


async def until_stopped(process_id: int) -> None:
    async with asyncio.timeout(10):
        while state_of(process_id) != "T":
            await asyncio.sleep(0.01)


async def test_where_it_cannot_be_started_the_thread_writes_and_the_log_says_so_once(
    database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        async with opened(database_url, clock) as database:
            await database.write(tasks.create)
            for number in range(20):
                assert await database.write(tasks.add, str(number)) == HERE
                await clock.advance(5)
            assert database.writer_process_id is None
            assert database.healthy
            assert logged(caplog).count(DOES_NOT_START) == 1
            broken.undo()
            await clock.advance(60)
            await at_work(database)
            assert "the process that writes the database is back" in logged(caplog)


@pytest.mark.parametrize("how", ["nowhere.to.be.found", "another version"])
async def test_a_process_that_cannot_take_tasks_says_why(
    database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    modules = [tasks.MODULE] if how == "another version" else [how]
    if how == "another version":
        monkeypatch.setattr(writer_process, "__version__", "0.0.0")
    database = await Database.open(database_url, clock=clock, portable_modules=modules)
    await database.write(tasks.create)
    first = database.writer_process_id
    async with asyncio.timeout(30):
        while database.writer_process_id == first:
            assert await database.write(tasks.where) == HERE
            await asyncio.sleep(0.02)
    (record,) = [one for one in caplog.records if one.getMessage() == DOES_NOT_START]
    assert ("restart the service" if how == "another version" else "ModuleNotFoundError") in str(vars(record)["error"])
    await database.close()


async def test_a_process_that_never_becomes_ready_is_given_up(
    database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer_process, "_MODULE", "tests.fakes.slow_process")
    async with opened(database_url, clock) as database:
        await database.write(tasks.create)
        first = database.writer_process_id
        assert first is not None
        assert await database.write(tasks.add, "a") == HERE
        await clock.advance(61)
        assert await database.write(tasks.add, "b") == HERE
        assert not is_there(first)
        assert logged(caplog).count(DOES_NOT_START) == 1


async def test_closing_ends_it_and_leaves_no_zombie(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as database:
        await database.write(tasks.create)
        there = await at_work(database)
        queued = [asyncio.create_task(database.write(tasks.add, str(number))) for number in range(5)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*queued) == [there] * 5
    assert not is_there(there)


async def test_closing_ends_one_that_is_stopped(
    database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_process, "_END_SECONDS", 0.2)
    async with opened(database_url, clock) as database:
        there = await at_work(database)
        os.kill(there, signal.SIGSTOP)
    assert not is_there(there)


async def test_it_does_not_mind_the_signals_of_a_terminal(things: Database) -> None:
    there = await at_work(things)
    os.kill(there, signal.SIGINT)
    os.kill(there, signal.SIGTERM)
    assert await things.write(tasks.add, "a") == there


async def test_one_that_dies_again_and_again_is_started_less_and_less_often(
    things: Database, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        process_id = await until_at_work(things, clock)
        os.kill(process_id, signal.SIGKILL)
        assert await things.write(tasks.add, str(number)) == HERE
    for _ in range(20):
        assert await things.write(tasks.where) == HERE
    assert things.writer_process_id is None, "it waits with the next one"
    await until_at_work(things, clock)
    assert await things.read(tasks.names) == [str(number) for number in range(6)]


async def until_at_work(database: Database, clock: FakeClock) -> int:
    """Return the id of the next process once it writes, however long that is put off."""
    async with asyncio.timeout(30):
        while (process_id := await database.write(tasks.where)) == HERE:
            await clock.advance(1)
            await asyncio.sleep(0.02)
    return process_id


PARENT = """
import asyncio, sys
from mailer.clock import SystemClock
from mailer.database import Database
from tests.fakes import portable_tasks as tasks

async def main(url, flag, begun):
    database = await Database.open(url, clock=SystemClock(), portable_modules=[tasks.MODULE])
    await database.write(tasks.create)
    while await database.write(tasks.where) != database.writer_process_id:
        await asyncio.sleep(0.02)
    await database.write(tasks.add, "before")
    print("at work:", database.writer_process_id, flush=True)
    adding = [database.write(tasks.add, name) for name in "abc"]
    await asyncio.gather(database.write(tasks.wait_for, flag, begun), *adding)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_parent_that_is_killed_takes_it_along_and_nothing_is_written_that_had_not_begun(
    tmp_path: Path, database_url: str
) -> None:
    flag, begun = tmp_path / "flag", tmp_path / "begun"
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, database_url, str(flag), str(begun), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    await parent.stdout.readuntil(b"at work: ")
    there = int(await parent.stdout.readline())
    async with asyncio.timeout(10):
        while not begun.exists():
            await asyncio.sleep(0.01)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(2):
        while is_running(there):
            await asyncio.sleep(0.01)
    flag.touch()
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), timeout=0)) as reader:
        reader.execute("BEGIN IMMEDIATE")
        assert reader.execute("SELECT name FROM things").fetchall() == [("before",)]


def is_running(process_id: int) -> bool:
    """Say whether a process that is not our child still runs: whoever inherits it may bury it late."""
    return is_there(process_id) and state_of(process_id) != "Z"
