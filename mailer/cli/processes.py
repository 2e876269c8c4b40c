"""The services as child processes: started together, watched together, ended together."""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from mailer.clock import Clock
from mailer.health import ask
from mailer.tls import ClientTls

_LONGEST_LINE = 1024 * 1024
_ASK_EVERY = 0.1
_WRONG_SETTINGS = 2
_SETTINGS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A service to start: its name, its module, and where it will answer."""

    name: str
    module: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """Return host:port."""
        return f"{self.host}:{self.port}"


class Ended(Exception):
    """Services ended by themselves."""

    def __init__(self, *processes: "Process") -> None:
        """Say which, how, and what each said last."""
        super().__init__("; ".join(map(_how, processes)))


class Process:
    """One running service; every line it prints goes to `say(name, line)`."""

    def __init__(self, planned: Planned, process: asyncio.subprocess.Process, say: Callable[[str, str], None]) -> None:
        """Take the process as it was started, with its output in a pipe."""
        self.planned = planned
        self._process = process
        self._say = say
        self.status = 0
        """Its exit status once it has ended (negative: a signal)."""
        self.last_line = ""

    @classmethod
    async def start(
        cls, planned: Planned, environment: Mapping[str, str], say: Callable[[str, str], None], *, parent: int
    ) -> "Process":
        """Start it in a session of its own: a Ctrl-C on our terminal must reach it once, through us."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mailer.cli.child",
            planned.module,
            str(parent),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            limit=_LONGEST_LINE,
            start_new_session=True,
        )
        return cls(planned, process, say)

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    async def run(self) -> int:
        """Pass on what it prints until it ends; returns its exit status."""
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:
                continue  # longer than any line should be: the rest of it follows
            if not line:
                break
            text = line.decode(errors="replace").rstrip()
            self.last_line = text or self.last_line
            self._say(self.planned.name, text)
        self.status = await self._process.wait()
        return self.status

    async def until_serving(self, clock: Clock, tls: ClientTls | None) -> None:
        """Return once its health service says SERVING."""
        while await ask(self.planned.address, tls=tls, timeout=1.0) != "SERVING":
            await clock.sleep(_ASK_EVERY)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal, if it still runs."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


async def supervise(
    processes: list[Process],
    *,
    clock: Clock,
    tls: ClientTls | None,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> None:
    """Watch the services until `stop` is set or one of them ends; then end all and wait for them.

    Raises Ended when one ended by itself, or ended badly when it was asked to.
    """
    runs = {asyncio.create_task(process.run()): process for process in processes}
    ready = asyncio.create_task(_all_serving(processes, clock, tls))
    stopping = asyncio.create_task(stop.wait())
    waits: set[asyncio.Task[int] | asyncio.Task[None] | asyncio.Task[bool]] = {*runs, ready, stopping}
    try:
        while True:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if any(run in done for run in runs):
                # Settings are read at once: what is wrong with those of the others is said in the same breath.
                if any(run in done and run.result() == _WRONG_SETTINGS for run in runs):
                    await asyncio.wait(runs, timeout=_SETTINGS_SECONDS)
                raise Ended(*(process for run, process in runs.items() if run.done()))
            if stopping in done:
                break
            ready.result()
            on_ready()
            waits.discard(ready)
    finally:
        ready.cancel()
        stopping.cancel()
        on_stop()
        for process in processes:
            process.stop()
        await asyncio.wait(runs)
    for run, process in runs.items():
        # One that was still starting does not catch the signal yet: it has ended as it was asked to.
        if run.result() not in {0, -signal.SIGTERM}:
            raise Ended(process)


def _how(process: Process) -> str:
    status = process.status
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
    said = f' and said last "{process.last_line}"' if process.last_line and status > 0 else ""
    return f"the {process.planned.name} ended {how}{said}"


async def _all_serving(processes: list[Process], clock: Clock, tls: ClientTls | None) -> None:
    await asyncio.gather(*(process.until_serving(clock, tls) for process in processes))
