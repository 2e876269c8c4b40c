"""The scene: one live database with everybody at work on it, and a store of snapshots beside it."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc
import zstandard

from chaos.backup import tables
from chaos.backup.diary import Diary, Looked, Written
from chaos.backup.history import History
from chaos.backup.plan import Life
from chaos.backup.tables import Content
from chaos.backup.traffic import diary_of
from chaos.processes import Nursery, Victim
from chaos.system import System
from mailer.client import connect
from mailer.v1 import backup_pb2_grpc

if TYPE_CHECKING:
    from mailer.v1.backup_pb2_grpc import BackupAsyncStub

WRITERS = ("writer-0", "writer-1")
READERS = ("reader-0", "reader-1")
START_SECONDS = 20.0
LOOK_SECONDS = 0.01

_OF_THE_STORE = {
    "settings.json",
    "status.json",
    "copies.json",
    "service.lock",
    "store.lock",
    "manifests.lock",
    "work",
    "restores",
}


class Scene:
    """Starts everybody but the backup service when entered; that one is started to be killed."""

    def __init__(self, directory: Path, seed: int, mutant: str) -> None:
        """Take an empty directory."""
        self.system = System(directory, seed, mutant, victim="backup", nursery=Nursery("chaos.backup.nursery"))
        self.database = self.system.database_file
        self.store = directory / "backups"
        self.writes: list[Written] = []
        self.looks = self.mixed_looks = 0
        self.workers: list[Victim] = []
        self._traffic: list[Victim] = []
        self._beside: set[str] = set()  # the database, before anything was restored
        self._channel: grpc.aio.Channel | None = None
        self._stack = AsyncExitStack()
        self._last_eras: dict[str, str] = {}
        self._diaries = {name: Diary(diary_of(directory, name)) for name in (*WRITERS, *READERS)}
        self.history = History("")

    async def __aenter__(self) -> Self:
        """Start the services that send, then those that write and read."""
        await self._stack.enter_async_context(self.system)
        try:
            directory = self.system.directory
            diary_of(directory, "").parent.mkdir()
            self.workers = [await self.system.start_scheduler(), await self.system.start_sender()]
            for name in ("scheduler", "sender"):
                await _listening(self.system.ports[name])
            await asyncio.to_thread(tables.prepare, self.database)
            self.history = History(tables.era_of(self.database))
            self._traffic = [await self.system.start(name.partition("-")[0], name) for name in (*WRITERS, *READERS)]
            self._beside = {path.name for path in directory.iterdir()} | {"backups"}
            await self.until(lambda: len(self._last_eras) == len(WRITERS) and self.looks > 0, seconds=START_SECONDS)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End everything."""
        if self._channel is not None:
            await self._channel.close()
        await self._stack.aclose()

    async def start_backup(self, life: Life | None = None) -> Victim:
        """Start the backup service for a life, or for as long as nobody ends it."""
        if life is None:
            return await self.system.start("backup", "backup")
        return await self.system.start(
            "backup", "backup", window=life.moment or "", passing=life.passing, cold=life.is_cold
        )

    async def client_of(self, victim: Victim) -> "BackupAsyncStub | None":
        """Return a client once the service listens; None when it has died before. Raises TimeoutError."""
        port = self.system.ports["backup"]
        end = monotonic() + START_SECONDS
        while not victim.has_ended:
            if _listens(port):
                return backup_pb2_grpc.BackupStub(await self._connect(port))
            if monotonic() > end:
                raise TimeoutError("the backup service did not begin to serve")
            await asyncio.sleep(LOOK_SECONDS)
        return None

    async def _connect(self, port: int) -> grpc.aio.Channel:
        # gRPC shares what lies under channels: one that is open would hand its pause after a refusal on to the next.
        if self._channel is not None:
            await self._channel.close()
        self._channel = connect(f"127.0.0.1:{port}")
        return self._channel

    def take_notes(self) -> None:
        """Take in what writers and readers have said since the last time."""
        for name in WRITERS:
            for number, era, began, ended in self._diaries[name].fresh():
                written = Written(int(number), str(era), float(began), float(ended))
                self.history.note(name, written)
                self.writes.append(written)
                self._last_eras[name] = written.era
        for name in READERS:
            for looks, mixed in self._diaries[name].fresh():
                looked = Looked(int(looks), int(mixed))
                self.looks += looked.looks
                self.mixed_looks += looked.mixed

    async def writers_go_on_in(self, era: str) -> bool:
        """Wait until every writer has written in the era: then all that it did before is in its diary."""
        return await self.until(lambda: set(self._last_eras.values()) == {era}, seconds=START_SECONDS)

    async def until(self, condition: Callable[[], bool], *, seconds: float) -> bool:
        """Take notes until the condition holds; False when it does not come to that in time."""
        end = monotonic() + seconds
        while True:
            self.take_notes()
            if condition():
                return True
            if monotonic() >= end:
                return False
            await asyncio.sleep(LOOK_SECONDS)

    def live(self) -> Content:
        """Return what the live database has. Blocks."""
        return tables.read(self.database)

    def content_of(self, snapshot_id: str) -> Content:
        """Return what a snapshot has, read by our own means. Blocks."""
        packed = self.store / f"{snapshot_id}.db.zst"
        with TemporaryDirectory(dir=self.system.directory) as folder:
            plain = Path(folder) / "plain.db"
            with packed.open("rb") as source, plain.open("wb") as target:
                zstandard.ZstdDecompressor().copy_stream(source, target)
            return tables.read(plain)

    def leftovers(self) -> list[str]:
        """Return what lies in the store or beside the database and belongs to no snapshot."""
        found = [path.name for path in self.store.iterdir() if not self._belongs(path)]
        found += [f"work/{path.name}" for path in (self.store / "work").iterdir()]
        if (self.store / "restores").exists():
            found += [f"restores/{path.name}" for path in (self.store / "restores").iterdir() if path.suffix != ".json"]
        found += {path.name for path in self.system.directory.iterdir()} - self._beside
        return found

    async def dismiss_traffic(self) -> list[str]:
        """Let writers and readers end, hear them out, and return who had ended before."""
        dead = [victim.order.environment["CHAOS_NAME"] for victim in self._traffic if victim.has_ended]
        await asyncio.gather(*(victim.end() for victim in self._traffic))
        self.take_notes()
        return dead

    def _belongs(self, path: Path) -> bool:
        if path.name in _OF_THE_STORE:
            return True
        if path.name.endswith(".db.zst"):
            return path.with_name(path.name.removesuffix(".db.zst") + ".json").exists()
        return path.suffix == ".json" and path.name.startswith("mailer_")


async def _listening(port: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while not _listens(port):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(LOOK_SECONDS)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
