"""The writer's process: what runs there and what does not, and that its end, whenever it comes, changes nothing."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from mailer.database import (
    Database,
    DatabaseBusy,
    DatabaseFull,
    DatabaseGone,
    DatabaseReplaced,
    users_lock_path,
    writer_process,
)
from mailer.database.identity import renew_incarnation
from mailer.errors import InvalidArgument, ResourceExhausted
from mailer.lockfile import is_owner_gone
from tests.fakes import portable_tasks as tasks
from tests.fakes.clock import FakeClock

HERE = os.getpid()


@asynccontextmanager
async def opened(url: str, clock: FakeClock, **more: Any) -> AsyncIterator[Database]:
    database = await Database.open(url, clock=clock, portable_modules=[tasks.MODULE], **more)
    try:
        yield database
    finally:
        await database.close()


async def at_work(database: Database) -> int:
    """Return the id of the writer's process once it writes."""
    async with asyncio.timeout(30):
        while (process_id := await database.write(tasks.where)) == os.getpid():
            await asyncio.sleep(0.02)
    assert process_id == database.writer_process_id
    return process_id


@pytest.fixture
async def things(database_url: str, clock: FakeClock) -> AsyncIterator[Database]:
    """Return a database whose process is at work."""
    async with opened(database_url, clock) as database:
        await database.write(tasks.create)
        await at_work(database)
        yield database


async def together(database: Database, *jobs: tuple[Any, ...]) -> list[Any]:
    """Submit jobs in one go, and return what becomes of each."""
    return await asyncio.gather(*(database.write(fn, *args) for fn, *args in jobs), return_exceptions=True)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_portable_tasks_run_there_and_others_here(things: Database) -> None:
    there = things.writer_process_id
    assert await together(things, (tasks.add, "a"), (tasks.add_here, "b"), (tasks.add, "c")) == [there, HERE, there]


async def test_the_order_of_submission_is_kept_between_both(things: Database) -> None:
    expected = [f"{number:03}" for number in range(300)]
    await together(
        things, *[(tasks.add_here if number % 7 < 3 else tasks.add, f"{number:03}") for number in range(300)]
    )
    assert await things.read(tasks.names) == expected


async def test_until_it_is_ready_the_thread_writes(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as database:
        await database.write(tasks.create)
        assert await database.write(tasks.add, "a") == HERE
        await at_work(database)
        assert await database.read(tasks.names) == ["a"]


async def test_errors_of_the_contract_arrive_with_all_they_say(things: Database) -> None:
    with pytest.raises(ResourceExhausted, match="full") as exhausted:
        await things.write(tasks.add_and_fail, "a", "exhausted")
    assert (exhausted.value.reason, exhausted.value.metadata) == ("QUEUE_FULL", {"run_id": "r"})
    assert exhausted.value.retry_after.total_seconds() == 3
    assert exhausted.value.to_status().message == "full"
    with pytest.raises(InvalidArgument) as invalid:
        await things.write(tasks.add_and_fail, "a", "invalid")
    assert [one.field for one in invalid.value.violations] == ["name"]
    assert things.healthy
    assert await things.read(tasks.names) == []


async def test_other_errors_arrive_as_what_they_are_and_name_the_line(things: Database) -> None:
    await things.write(tasks.add, "a")
    with pytest.raises(IntegrityError) as twice:
        await things.write(tasks.add, "a")
    assert isinstance(twice.value.orig, sqlite3.IntegrityError)
    with pytest.raises(LookupError, match="on purpose") as bug:
        await things.write(tasks.add_and_fail, "b", "on purpose")
    assert "in add_and_fail" in bug.value.__notes__[0]
    with pytest.raises(UnicodeEncodeError, match="'ascii' codec"):
        await things.write(tasks.add_and_fail, "b", "unicode")
    with pytest.raises(RuntimeError, match="Unpicklable"):
        await things.write(tasks.add_and_fail, "b", "unpicklable")
    assert await things.read(tasks.names) == ["a"]
    assert things.healthy


async def test_a_failing_task_undoes_itself_and_not_its_group(things: Database) -> None:
    results = await together(
        things, (tasks.add, "a"), (tasks.add_and_fail, "b", "bug"), (tasks.add, "a"), (tasks.add, "c")
    )
    assert [type(one) for one in results] == [int, LookupError, IntegrityError, int]
    assert await things.read(tasks.names) == ["a", "c"]


async def test_a_result_that_cannot_travel_is_an_error_and_nothing_is_done(things: Database) -> None:
    there = await at_work(things)
    with pytest.raises(Exception, match=r"pickle|local"):
        await things.write(tasks.add_and_return_a_function, "a")
    assert await things.read(tasks.names) == []
    assert await things.write(tasks.add, "b") == there


async def test_arguments_that_cannot_travel_are_written_here(things: Database) -> None:
    class Name(str):
        __slots__ = ()

    assert await things.write(tasks.add, Name("a")) == HERE
    assert await things.read(tasks.names) == ["a"]
    await at_work(things)


async def test_a_locked_database_is_busy_there_and_recovers_by_itself(
    things: Database, database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, busy_timeout=timedelta(milliseconds=50)) as impatient:
        there = await at_work(impatient)
        with closing(sqlite3.connect(things.location.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            results = await together(impatient, (tasks.add, "a"), (tasks.add, "b"))
            assert [type(one) for one in results] == [DatabaseBusy, DatabaseBusy]
            assert results[0] is not results[1]
            assert not impatient.healthy
            other.execute("ROLLBACK")
        assert await impatient.probe()
        assert await impatient.write(tasks.add, "a") == there


async def test_a_full_file_fails_the_group_and_changes_nothing(things: Database) -> None:
    there = await at_work(things)
    assert await things.write(tasks.limit_pages, 10) == there
    results = await together(things, (tasks.add, "a"), (tasks.fill, 2), (tasks.add, "b"))
    assert [type(one) for one in results] == [DatabaseFull] * 3
    assert not things.healthy
    assert await things.read(tasks.names) == []
    assert await things.write(tasks.limit_pages, 100_000) == there
    assert await things.write(tasks.add, "a") == there
    assert things.healthy


async def test_a_restored_database_is_noticed_there(things: Database) -> None:
    noticed: list[str] = []
    things.on_replaced(lambda: noticed.append(things.incarnation))
    with closing(sqlite3.connect(things.location.path, isolation_level=None)) as other:
        other.execute("UPDATE database_identity SET incarnation = 'another'")
    results = await together(things, (tasks.add, "a"), (tasks.add, "b"))
    assert [type(one) for one in results] == [DatabaseReplaced] * 2
    assert things.incarnation == "another"
    assert await things.write(tasks.add, "c") == things.writer_process_id
    await asyncio.sleep(0)
    assert noticed == ["another"]
    assert things.healthy


async def test_a_new_incarnation_made_here_holds_there(things: Database, clock: FakeClock) -> None:
    incarnation = await things.write(renew_incarnation, clock.now())
    with pytest.raises(DatabaseReplaced):
        await things.write(tasks.add, "a")
    assert things.incarnation == incarnation
    assert await things.write(tasks.add, "b") == things.writer_process_id


async def test_a_deleted_file_is_gone_there_and_comes_back(things: Database) -> None:
    path = things.location.path
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(DatabaseGone, match="missing"):
        await things.write(tasks.add, "a")
    assert not things.healthy
    assert not path.exists()
    path.with_name("elsewhere.db").rename(path)
    assert await things.probe()
    assert await things.write(tasks.add, "a") == things.writer_process_id


async def test_both_let_go_of_a_lost_file_and_take_up_its_successor(
    things: Database, tmp_path: Path, clock: FakeClock
) -> None:
    other = await Database.open(f"sqlite:///{tmp_path}/other.db", clock=clock)
    await other.write(tasks.create)
    await other.write(tasks.add_here, "new")
    await other.close()
    path = things.location.path
    await things.write(tasks.add, "old")
    path.unlink()
    assert not await things.probe()
    assert is_owner_gone(users_lock_path(path)), "whoever restores the file does not wait for either process"
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()  # noqa: ASYNC240
    other.location.path.rename(path)
    assert await things.probe()
    assert things.incarnation == other.incarnation
    assert await things.write(tasks.add, "newer") == things.writer_process_id
    assert await things.read(tasks.names) == ["new", "newer"]


async def test_a_file_that_this_process_misses_first_is_let_go_of_by_the_next_probe(things: Database) -> None:
    path = things.location.path
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(DatabaseGone):
        await things.read(tasks.names)
    assert not await things.probe()
    assert is_owner_gone(users_lock_path(path))


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
    )
    assert results[:2] == [there, there]
    assert [type(one) for one in results[2:]] == [IntegrityError, ResourceExhausted]
    assert await things.read(tasks.names) == ["a", "b"]
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
        assert not alive(there)
        assert await things.read(tasks.names) == ["a"]
        assert "it did not answer, and was killed" in [getattr(one, "cause", "") for one in caplog.records]


async def until_stopped(process_id: int) -> None:
    async with asyncio.timeout(10):
        while state_of(process_id) != "T":
            await asyncio.sleep(0.01)


def state_of(process_id: int) -> str:
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(") ")[2][0]


def alive(process_id: int) -> bool:
    """Say whether there is a process with that id, be it a zombie."""
    return Path(f"/proc/{process_id}").exists()


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


DOES_NOT_START = (
    "the process that writes the database does not start: this one writes everything, more slowly, "
    "and tries again now and then"
)


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
        assert not alive(first)
        assert logged(caplog).count(DOES_NOT_START) == 1


async def test_closing_ends_it_and_leaves_no_zombie(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as database:
        await database.write(tasks.create)
        there = await at_work(database)
        queued = [asyncio.create_task(database.write(tasks.add, str(number))) for number in range(5)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*queued) == [there] * 5
    assert not alive(there)


async def test_closing_ends_one_that_is_stopped(
    database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_process, "_END_SECONDS", 0.2)
    async with opened(database_url, clock) as database:
        there = await at_work(database)
        os.kill(there, signal.SIGSTOP)
    assert not alive(there)


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


async def test_marks_of_processes_that_are_long_gone_are_forgotten(things: Database) -> None:
    with closing(sqlite3.connect(things.location.path)) as other:
        for number in range(100):
            other.execute("INSERT INTO database_writers (writer_id, last_group) VALUES (?, 1)", (f"old {number}",))
        other.commit()
        await things.write(tasks.add, "a")
        assert other.execute("SELECT count(*) FROM database_writers").fetchone()[0] == 64
