"""What a snapshot and a restore of a large database cost, and how long others wait for them.

Two processes commit small transactions all the time, one reads; whatever is measured is measured while they are at
work. `nothing`: they alone. `ours_create`: Backup.Create, which copies, checks, packs, reads back and proves. Beside
it what SQLite brings along, which proves nothing: `backup_api` in one step, `backup_api_steps` in steps of 100 pages as
the `.backup` of the sqlite3 shell does it, and `vacuum_into`. `ours_restore`: Backup.Restore of the latest snapshot.

In steps the backup API begins anew after every commit of another process: under writers a large database is never
done, and it is given up after `--deadline`.
"""

import asyncio
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from uuid import uuid4

from benchmarks.command import Command
from benchmarks.crowd import Crowd, crowd
from benchmarks.diary import Span
from benchmarks.old_books import make_old
from benchmarks.product import WORKROOM, Product, running
from benchmarks.programs import figures_of
from benchmarks.report import conclude
from benchmarks.rounds import Row, Series
from benchmarks.sinks import light_sink
from mailer.v1 import backup_pb2

DELIVERIES_A_MEGABYTE = 1_700  # with their campaigns and indexes
DELIVERIES_A_CAMPAIGN = 100
NOTHING_SECONDS = 5.0
SETTLE_SECONDS = 1.0
CALL_SECONDS = 600.0
COLUMNS = {
    "seconds": "seconds",
    "p50_ms": "commit p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "writes": "writes",
    "refused": "refused",
    "read_max_ms": "read max ms",
    "mb": "MB",
    "done": "done",
    "proven": "proven",
    "lock_seconds": "lock s",
}
FIGURES = {
    "create_s": ("ours_create", "seconds"),
    "create_writer_p99_ms": ("ours_create", "p99_ms"),
    "backup_api_s": ("backup_api", "seconds"),
    "backup_api_writer_p99_ms": ("backup_api", "p99_ms"),
    "backup_api_steps_done": ("backup_api_steps", "done"),
    "vacuum_into_s": ("vacuum_into", "seconds"),
    "vacuum_into_writer_p99_ms": ("vacuum_into", "p99_ms"),
    "baseline_writer_p99_ms": ("nothing", "p99_ms"),
    "restore_s": ("ours_restore", "seconds"),
    "restore_write_lock_s": ("ours_restore", "lock_seconds"),
    "restore_writer_max_wait_ms": ("ours_restore", "max_ms"),
    "restore_reader_max_ms": ("ours_restore", "read_max_ms"),
}


@dataclass(slots=True)
class Scene:
    """The services over a large database, and everybody at work on it."""

    product: Product
    crowd: Crowd
    snapshot: backup_pb2.Snapshot | None = None

    async def create(self) -> backup_pb2.Snapshot:
        """Take a snapshot; it is proven when this returns."""
        request = backup_pb2.BackupCreateRequest(request_id=uuid4().hex)
        self.snapshot = (await self.product.system.backup.Create(request, timeout=CALL_SECONDS)).snapshot
        return self.snapshot


@dataclass(slots=True)
class Bench:
    """The rows over one database; `database_mb` is its size before the first."""

    megabytes: int
    deadline_seconds: float
    database_mb: float = 0.0
    _scene: Scene | None = field(default=None, init=False)

    def rows(self) -> dict[str, Row]:
        """Return all rows by name."""
        return {
            "nothing": self.nothing,
            "ours_create": self.create,
            "backup_api": lambda: self.copy("whole"),
            "backup_api_steps": lambda: self.copy("steps"),
            "vacuum_into": lambda: self.copy("vacuum"),
            "ours_restore": self.restore,
        }

    @asynccontextmanager
    async def scene(self) -> AsyncIterator[None]:
        """Make the database, and start everybody."""
        try:
            async with light_sink() as port, running("backup", port, warm_up=1, backup=True) as product:
                await product.finished()
                await no_schedule(product)
                await self._enlarge(product)
                async with crowd(product.database) as everybody:
                    self._scene = Scene(product, everybody)
                    yield
        finally:
            remove_all_but_logs(WORKROOM / "backup")

    async def nothing(self) -> Mapping[str, float]:
        """Measure the writers alone."""
        scene = await self._settled()
        began = monotonic()
        await asyncio.sleep(NOTHING_SECONDS)
        span = Span(began, monotonic())
        return {"seconds": span.seconds, **await scene.crowd.noticed(span)}

    async def create(self) -> Mapping[str, float]:
        """Measure a snapshot of ours."""
        scene = await self._settled()
        began = monotonic()
        snapshot = await scene.create()
        span = Span(began, monotonic())
        return {
            "seconds": span.seconds,
            **await scene.crowd.noticed(span),
            "mb": snapshot.size_bytes / 1e6,
            "done": 1,
            "proven": snapshot.state == backup_pb2.Snapshot.STATE_OK,
        }

    async def copy(self, how: str) -> Mapping[str, float]:
        """Measure a copy by what SQLite brings along; nobody proves it."""
        scene = await self._settled()
        target = scene.product.database.with_name("copy.db")
        command = (sys.executable, "-m", "benchmarks.copier", how, str(scene.product.database), str(target))
        try:
            copied = await figures_of(*command, str(self.deadline_seconds))
            size = target.stat().st_size
        finally:
            target.unlink(missing_ok=True)
        span = Span(copied["began"], copied["ended"])
        if not copied["done"]:
            print(
                f"backup_api_steps did not end in {self.deadline_seconds:.0f} s: it began anew"
                f" {copied['restarts']:,.0f} times, and came as far as {copied['furthest']:.0%}",
                flush=True,
            )
        noticed = await scene.crowd.noticed(span)
        mb = size / 1e6 if copied["done"] else 0
        return {"seconds": span.seconds, **noticed, "mb": mb, "done": copied["done"], "proven": 0}

    async def restore(self) -> Mapping[str, float]:
        """Measure a restore of the latest snapshot."""
        scene = await self._settled()
        snapshot = scene.snapshot or await scene.create()
        request = backup_pb2.BackupRestoreRequest(request_id=uuid4().hex, snapshot_id=snapshot.snapshot_id)
        began = monotonic()
        answer = await scene.product.system.backup.Restore(request, timeout=CALL_SECONDS)
        span = Span(began, monotonic())
        return {
            "seconds": span.seconds,
            **await scene.crowd.noticed(span),
            "done": 1,
            "lock_seconds": answer.write_lock.ToTimedelta().total_seconds(),
            "carried": answer.carried_row_count,
        }

    async def _settled(self) -> Scene:
        """Return the scene once the row before is over for everybody."""
        assert self._scene is not None
        await asyncio.sleep(SETTLE_SECONDS)
        await self._scene.crowd.at_work()
        return self._scene

    async def _enlarge(self, product: Product) -> None:
        """Fill the database with old work while nobody has it open."""
        began = monotonic()
        names = tuple(product.system.ports)
        for name in names:
            await product.system.end(name, signal.SIGTERM)
        deliveries = self.megabytes * DELIVERIES_A_MEGABYTE
        await asyncio.to_thread(make_old, product.database, deliveries // DELIVERIES_A_CAMPAIGN, deliveries)
        self.database_mb = size_of(product.database) / 1e6
        print(f"the database of {self.database_mb:,.0f} MB took {monotonic() - began:.0f} s", flush=True)
        for name in names:
            await product.system.start(name)


async def no_schedule(product: Product) -> None:
    """Switch the schedule of the backups off: nobody but us takes any."""
    request = backup_pb2.BackupUpdateSettingsRequest(settings=backup_pb2.BackupSettings())
    request.update_mask.paths.append("backup_schedule")
    await product.system.backup.UpdateSettings(request, timeout=10)


def remove_all_but_logs(directory: Path) -> None:
    """Remove what is large, also after what did not finish: then the logs may say why."""
    for path in directory.iterdir() if directory.exists() else ():
        if path.name == "logs":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def size_of(database: Path) -> int:
    """Return the size of a database without its log, in bytes."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        return int(connection.execute(query).fetchone()[0])


def summarise(series: Mapping[str, Series], database_mb: float) -> dict[str, object]:
    """Return the figures of the last line: medians of what was measured."""
    found: dict[str, object] = {"database_mb": round(database_mb, 1)}
    for figure, (row, key) in FIGURES.items():
        if row in series:
            found[figure] = round(series[row][key].median, 3)
    return found


def main() -> None:
    """Run from the command line."""
    command = Command("backup", __doc__, rounds=3)
    add = command.parser.add_argument
    add("--megabytes", type=int, default=500, help="size of the database")
    add("--deadline", type=float, default=60.0, help="seconds after which the copy in steps is given up")
    options = command.parse()
    if options.megabytes < 1:
        command.parser.error("--megabytes: at least 1")
    bench = Bench(options.megabytes, options.deadline)
    series = command.measure(bench.rows(), within=bench.scene())
    conclude(
        "backup",
        title=f"Snapshot and restore of {bench.database_mb:,.0f} MB under two writers",
        unit="milliseconds of a writer's commit meanwhile, 99 of 100",
        key="p99_ms",
        series=series,
        columns=COLUMNS,
        summary=summarise(series, bench.database_mb),
        keep=options.keep,
    )


if __name__ == "__main__":
    main()
