"""Writers and readers that keep at it while something else is measured, and what they noticed."""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from benchmarks.diary import Act, Span, read_acts
from benchmarks.latencies import distribution
from benchmarks.product import Stuck
from benchmarks.programs import start

WRITERS = ("writer-0", "writer-1")
READERS = ("reader-0",)
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Processes at work, each with a diary."""

    diaries: Mapping[str, Path]

    async def noticed(self, span: Span) -> dict[str, float]:
        """Return how writers and readers fared meanwhile. Raises Stuck when one of them does not go on."""
        await self._past(span.ended)
        writes, reads = self._acts(WRITERS), self._acts(READERS)
        touched = span.touched_by(writes)
        return {
            **distribution([act.seconds for act in touched]),
            "writes": len(span.done_in(writes)),
            "refused": sum(act.refused for act in touched),
            "read_max_ms": distribution([act.seconds for act in span.touched_by(reads)])["max_ms"],
        }

    async def at_work(self) -> None:
        """Wait until everybody has done something from now on. Raises Stuck."""
        await self._past(monotonic())

    async def _past(self, moment: float) -> None:
        """Wait until everybody has begun and ended something after the moment: what went before is written down."""
        end = monotonic() + PATIENCE_SECONDS
        while behind := [name for name in self.diaries if not self._is_past(name, moment)]:
            if monotonic() > end:
                raise Stuck(f"{', '.join(behind)} did nothing for {PATIENCE_SECONDS:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)

    def _is_past(self, name: str, moment: float) -> bool:
        acts = self._acts((name,))
        return bool(acts) and acts[-1].began > moment

    def _acts(self, names: tuple[str, ...]) -> list[Act]:
        return [act for name in names if self.diaries[name].exists() for act in read_acts(self.diaries[name])]


@asynccontextmanager
async def crowd(database: Path) -> AsyncIterator[Crowd]:
    """Let two write and one read, from when all of them are at work until the block ends."""
    everybody = Crowd({name: database.parent / f"{name}.txt" for name in (*WRITERS, *READERS)})
    processes: list[Process] = []
    try:
        for name, diary in everybody.diaries.items():
            kind = name.partition("-")[0]
            processes.append(
                await start(sys.executable, "-m", "benchmarks.traffic", kind, name, str(database), str(diary))
            )
        await everybody.at_work()
        yield everybody
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(process.wait() for process in processes))
