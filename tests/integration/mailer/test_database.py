"""The writer and the readers on a real SQLite file."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError

from mailer.database import (
    Database,
    DatabaseBusy,
    DatabaseFull,
    DatabaseGone,
    DatabaseReplaced,
    users_lock_path,
)
from mailer.database.identity import renew_incarnation
from mailer.lockfile import LockFile
from tests.fakes.clock import FakeClock
from tests.fakes.writing import is_let_go_of


def create(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE things (name TEXT PRIMARY KEY)"))


def add(connection: Connection, name: str) -> str:
    connection.execute(text("INSERT INTO things VALUES (:name)"), {"name": name})
    return name


def names(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT name FROM things ORDER BY name")).scalars())


@pytest.fixture
async def things(database: Database) -> Database:
    await database.write(create)
    return database


@pytest.fixture
async def impatient(database_url: str, clock: FakeClock) -> AsyncIterator[Database]:
    """Return a database that waits for a lock for a twentieth of a second only."""
    opened = await Database.open(database_url, clock=clock, busy_timeout=timedelta(milliseconds=50))
    await opened.write(create)
    yield opened
    await opened.close()


class Gate:
    """Keeps the writer at work on one job, so that what is submitted meanwhile becomes one group."""

    def __init__(self, database: Database) -> None:
        self._started, self._open = threading.Event(), threading.Event()
        self._job = asyncio.ensure_future(database.write(self._wait))

    def _wait(self, _: Connection) -> None:
        self._started.set()
        assert self._open.wait(10)

    async def closed(self) -> None:
        assert await asyncio.to_thread(self._started.wait, 10)

    async def open(self) -> None:
        self._open.set()
        await self._job


async def submit(database: Database, *values: str) -> list["asyncio.Task[str]"]:
    tasks = [asyncio.create_task(database.write(add, value)) for value in values]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_a_write_is_seen_by_the_next_read(things: Database) -> None:
    assert await things.write(add, "a") == "a"
    assert await things.read(names) == ["a"]


async def test_arguments_may_be_named(things: Database) -> None:
    assert await things.write(add, name="a") == "a"


async def test_a_failing_job_undoes_itself_and_not_its_group(things: Database) -> None:
    gate = Gate(things)
    await gate.closed()
    tasks = await submit(things, "a", "b", "a", "c")
    await gate.open()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, str, IntegrityError, str]
    assert await things.read(names) == ["a", "b", "c"]


async def test_jobs_that_wait_share_one_transaction(things: Database, database_url: str) -> None:
    path = database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as outside:
        before = outside.execute("PRAGMA data_version").fetchone()
        gate = Gate(things)
        await gate.closed()
        tasks = await submit(things, *"abcdefgh")
        counts: list[int] = []
        await gate.open()
        await asyncio.gather(*tasks)
        counts.append(outside.execute("SELECT count(*) FROM things").fetchone()[0])
        assert counts == [8]
        assert outside.execute("PRAGMA data_version").fetchone() != before


async def test_a_job_that_raises_undoes_what_it_wrote_when_it_is_alone(things: Database) -> None:
    def half(connection: Connection) -> None:
        add(connection, "a")
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        await things.write(half)
    assert await things.read(names) == []
    assert things.healthy


async def test_a_job_may_raise_anything_and_the_writer_goes_on(things: Database) -> None:
    def stop(_: Connection) -> None:
        raise StopIteration

    def leave(_: Connection) -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError):
        await things.write(stop)
    with pytest.raises(asyncio.CancelledError):
        await things.write(_cancelled)
    assert await things.write(add, "a") == "a"


def _cancelled(_: Connection) -> None:
    raise asyncio.CancelledError


async def test_a_cancelled_waiter_that_has_not_started_is_skipped(things: Database) -> None:
    gate = Gate(things)
    await gate.closed()
    first, second = await submit(things, "first", "second")
    first.cancel()
    await asyncio.sleep(0)
    await gate.open()
    assert await second == "second"
    assert await things.read(names) == ["second"]


async def test_a_reader_cannot_write(things: Database) -> None:
    with pytest.raises(OperationalError, match="readonly"):
        await things.read(add, "a")


async def test_a_read_sees_one_state_from_start_to_end(things: Database) -> None:
    between, go_on = threading.Event(), threading.Event()

    def twice(connection: Connection) -> tuple[list[str], list[str]]:
        first = names(connection)
        between.set()
        assert go_on.wait(10)
        return first, names(connection)

    reading = asyncio.create_task(things.read(twice))
    assert await asyncio.to_thread(between.wait, 10)
    await things.write(add, "a")
    go_on.set()
    assert await reading == ([], [])


async def test_a_locked_database_is_busy_and_recovers_by_itself(impatient: Database, database_url: str) -> None:
    health: list[bool] = []
    impatient.on_health_change(health.append)
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy):
            await impatient.write(add, "a")
        assert not impatient.healthy
        assert not await impatient.probe()
        assert await impatient.read(names) == [], "readers go on"
        other.execute("ROLLBACK")
    assert await impatient.probe()
    assert await impatient.write(add, "a") == "a"
    await asyncio.sleep(0)
    assert health == [False, True]


async def test_every_waiter_has_an_error_of_its_own(impatient: Database, database_url: str) -> None:
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        gate = Gate(impatient)
        await gate.closed()
        tasks = await submit(impatient, "a", "b")
        await gate.open()
        other.execute("BEGIN IMMEDIATE") if not any(task.done() for task in tasks) else None
        results = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert len({id(error) for error in errors}) == len(errors)


async def test_a_full_disk_fails_the_group_and_changes_nothing(things: Database) -> None:
    def too_much(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        for number in range(200):
            add(connection, str(number) * 1000)

    def room_again(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")

    gate = Gate(things)
    await gate.closed()
    (before,) = await submit(things, "before")
    filling = asyncio.create_task(things.write(too_much))
    await asyncio.sleep(0)
    (after,) = await submit(things, "after")
    await gate.open()
    results = await asyncio.gather(before, filling, after, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseFull] * 3
    assert not things.healthy
    assert await things.read(names) == []
    await things.write(room_again)
    assert await things.write(add, "a") == "a"
    assert things.healthy


async def test_a_disk_is_full_until_it_has_room_again_also_when_a_row_still_fits(
    things: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection) -> None:
        raise OperationalError("COMMIT", {}, full)

    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    room = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room._replace(free=4096))
    with pytest.raises(DatabaseFull):
        await things.write(fail)
    assert await things.write(add, "small") == "small"
    assert not await things.probe()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room._replace(free=1 << 30))
    assert await things.probe()


async def test_a_full_disk_is_noticed_by_those_who_write_nothing(
    things: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room._replace(free=4096))
    assert not await things.probe()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room._replace(free=1 << 30))
    assert await things.probe()


async def test_a_restored_database_is_noticed_and_stale_work_is_dropped(things: Database, clock: FakeClock) -> None:
    noticed: list[str] = []
    things.on_replaced(lambda: noticed.append(things.incarnation))
    before = things.incarnation

    def restore(path: Path) -> str:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("UPDATE database_identity SET incarnation = 'another'")
        return "another"

    await asyncio.to_thread(restore, things.location.path)
    results = await asyncio.gather(things.write(add, "a"), things.write(add, "b"), return_exceptions=True)
    assert {type(result) for result in results} == {DatabaseReplaced}
    assert await things.read(names) == []
    assert things.incarnation == "another"
    assert await things.write(add, "c") == "c"
    with pytest.raises(DatabaseReplaced):
        await things.write_under(before, add, "d")
    await asyncio.sleep(0)
    assert noticed == ["another"]
    assert things.healthy, "a restore is no illness"


async def test_a_probe_notices_a_restore_when_nobody_writes(things: Database) -> None:
    noticed: list[bool] = []
    things.on_replaced(lambda: noticed.append(True))
    with closing(sqlite3.connect(things.location.path, isolation_level=None)) as other:
        other.execute("UPDATE database_identity SET incarnation = 'another'")
    assert await things.probe()
    await asyncio.sleep(0)
    assert noticed == [True]


async def test_a_new_incarnation_made_here_is_noticed_too(things: Database, clock: FakeClock) -> None:
    incarnation = await things.write(renew_incarnation, clock.now())
    await things.probe()
    assert things.incarnation == incarnation


async def test_a_deleted_file_is_gone_and_nothing_is_created_in_its_place(things: Database) -> None:
    path = things.location.path
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(DatabaseGone, match="missing"):
        await things.write(add, "a")
    with pytest.raises(DatabaseGone):
        await things.read(names)
    assert not things.healthy
    assert not path.exists()
    path.with_name("elsewhere.db").rename(path)
    assert await things.probe()
    assert await things.write(add, "a") == "a"


@pytest.fixture
async def other_file(tmp_path: Path, clock: FakeClock) -> Database:
    """Return a closed database in a file of its own, with one thing in it."""
    other = await Database.open(f"sqlite:///{tmp_path}/other.db", clock=clock)
    await other.write(create)
    await other.write(add, "new")
    await other.close()
    return other


async def test_a_new_file_in_the_place_of_a_deleted_one_is_taken_up(things: Database, other_file: Database) -> None:
    path = things.location.path
    await things.write(add, "old")
    path.unlink()
    assert not await things.probe()
    assert is_let_go_of(path)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()  # noqa: ASYNC240
    other_file.location.path.rename(path)
    assert await things.probe()
    assert things.incarnation == other_file.incarnation
    assert await things.read(names) == ["new"]


async def test_a_file_exchanged_beside_the_old_log_is_not_mixed_with_it(things: Database, other_file: Database) -> None:
    path = things.location.path
    await things.write(add, "old")
    other_file.location.path.rename(path)
    before = path.read_bytes()
    assert not await things.probe()
    assert "mailer.db-wal" in str(things.problem)
    assert path.read_bytes() == before


async def test_a_file_under_restore_is_left_alone_until_that_is_done(things: Database, other_file: Database) -> None:
    path = things.location.path
    path.rename(path.with_name("old.db"))
    assert not await things.probe()
    with LockFile(users_lock_path(path)):
        path.with_name("old.db").rename(path)
        assert not await things.probe()
    assert await things.probe()


async def test_a_foreign_file_in_its_place_is_not_touched(things: Database) -> None:
    things.location.path.rename(things.location.path.with_name("ours.db"))
    things.location.path.write_bytes(b"precious notes of somebody else")
    with pytest.raises(DatabaseGone):
        await things.write(add, "a")
    assert things.location.path.read_bytes() == b"precious notes of somebody else"


async def test_a_database_that_lost_its_tables_does_not_work(things: Database) -> None:
    with closing(sqlite3.connect(things.location.path, isolation_level=None)) as other:
        other.execute("DROP TABLE database_identity")
    assert not await things.probe()
    with pytest.raises(DatabaseGone, match="identity"):
        await things.write(add, "a")


async def test_closing_finishes_what_was_queued(database_url: str, clock: FakeClock) -> None:
    database = await Database.open(database_url, clock=clock)
    await database.write(create)
    gate = Gate(database)
    await gate.closed()
    tasks = await submit(database, "a", "b")
    closing_ = asyncio.create_task(database.close())
    await asyncio.sleep(0)
    await gate.open()
    await closing_
    assert await asyncio.gather(*tasks) == ["a", "b"]
    with pytest.raises(DatabaseGone):
        await database.write(add, "c")
    with pytest.raises(DatabaseGone):
        await database.read(names)


async def test_the_safety_settings_hold_on_every_connection(things: Database) -> None:
    def pragmas(connection: Connection) -> list[object]:
        wanted = ("journal_mode", "synchronous", "foreign_keys", "query_only")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted]

    assert await things.write(pragmas) == ["wal", 2, 1, 0]
    assert (await things.read(pragmas))[0] == "wal"
    assert (await things.read(pragmas))[3] == 1


async def test_concurrent_increments_are_not_lost_between_two_databases(
    things: Database, database_url: str, clock: FakeClock
) -> None:
    def increment(connection: Connection) -> None:
        number = len(names(connection))
        add(connection, f"{number:04}")

    other = await Database.open(database_url, clock=clock)
    await asyncio.gather(*(database.write(increment) for _ in range(50) for database in (things, other)))
    assert len(await other.read(names)) == 100
    await other.close()


WRITE_FOR_EVER = """
import asyncio, itertools, sys
from sqlalchemy import text
from mailer.clock import SystemClock
from mailer.database import Database
def add(connection, name):
    connection.execute(text("INSERT INTO things VALUES (:name)"), {"name": name})
    return name
async def writer(database, first):
    for number in itertools.count():
        print("answered", await database.write(add, f"{first}-{number}"), flush=True)
async def main():
    database = await Database.open(sys.argv[1], clock=SystemClock())
    await asyncio.gather(*(writer(database, first) for first in "abcd"))
asyncio.run(main())
"""


async def test_what_was_answered_survives_kill_9(things: Database, database_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITE_FOR_EVER, database_url, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(200)]
    process.kill()
    rest, _ = await process.communicate()
    lines += rest.splitlines(keepends=True)
    # The kill may have cut the last line.
    answered = {line.decode().split()[1] for line in lines if line.startswith(b"answered") and line.endswith(b"\n")}
    assert answered <= set(await things.read(names))
    assert len(answered) >= 199
