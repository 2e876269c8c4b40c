"""Processes that are started to be killed."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from chaos.order import Order

_WRITER = b"mailer.database.writer_main"


class Victim:
    """A running service. Signals go through a pidfd: they cannot hit another process that got the same id."""

    def __init__(self, process_id: int, order: Order) -> None:
        """Take a process that has just been started."""
        self.process_id = process_id
        self.order = order
        self.start_time = monotonic()
        self.end_time = self.start_time
        self.is_condemned = False  # by us: then its end is no surprise
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            self._handle = os.pidfd_open(process_id)
        except ProcessLookupError:
            self._handle = -1
            self._ended.set()
        else:
            self._loop.add_reader(self._handle, self._on_end)

    @property
    def has_ended(self) -> bool:
        """Say whether it is no more."""
        return self._ended.is_set()

    @property
    def died_at_window(self) -> bool:
        """Say whether it killed itself where it was told to."""
        return self.has_ended and bool(self.order.window) and f"failpoint {self.order.window}\n" in self.last_words()

    async def ended(self, seconds: float) -> bool:
        """Wait for its end, at most so long; False when it still runs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        return self.has_ended

    async def kill(self) -> None:
        """Kill it, and return when it is dead."""
        self.signal(signal.SIGKILL)
        await self._ended.wait()

    async def end(self) -> None:
        """Ask it to end, and return when it has; kill it when it does not."""
        self.signal(signal.SIGTERM)
        if not await self.ended(20):
            await self.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        self.is_condemned |= number in {signal.SIGKILL, signal.SIGTERM}
        if not self.has_ended:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def is_stopped(self) -> bool:
        """Say whether each of its threads has been stopped."""
        try:
            stats = [path.read_text("ascii") for path in Path(f"/proc/{self.process_id}/task").glob("*/stat")]
        except (FileNotFoundError, ProcessLookupError):
            return False  # a thread, or the process, has just ended
        return {stat.rpartition(") ")[2][:1] for stat in stats} == {"T"}

    def kill_writer(self, database: Path) -> bool:
        """Kill the process that writes for it; False when there is none that has the database open."""
        for path in Path(f"/proc/{self.process_id}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                for child in path.read_text("ascii").split():
                    handles = Path(f"/proc/{child}/fd").iterdir()
                    if _WRITER in Path(f"/proc/{child}/cmdline").read_bytes() and any(
                        handle.readlink() == database.absolute() for handle in handles
                    ):
                        os.kill(int(child), signal.SIGKILL)
                        return True
        return False

    def last_words(self) -> str:
        """Return what it said."""
        return Path(self.order.log_file).read_text(encoding="utf-8", errors="replace")

    def _on_end(self) -> None:
        self._loop.remove_reader(self._handle)
        os.close(self._handle)
        self.end_time = monotonic()
        self._ended.set()


class Nursery:
    """Starts victims, see `chaos.nursery`; those that are left die with it."""

    def __init__(self, module: str = "chaos.nursery") -> None:
        """Start nothing yet."""
        self._module = module
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start the process that forks."""
        # What is set outside must not lead chaos to somebody's real database.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILER_")}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment | {"MAILER_SETTINGS_FILE": os.devnull},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def start(self, order: Order) -> Victim:
        """Start a service."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order.to_line())
        line = await self._process.stdout.readline()
        return Victim(int(line), order)
