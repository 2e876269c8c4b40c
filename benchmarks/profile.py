"""Where a process spends its time, by py-spy: samples from outside, so that little is changed by looking."""

import asyncio
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.product import WORKROOM
from benchmarks.programs import start

RATE = 250
MOST_LINES = 40


@asynccontextmanager
async def profiled(process_id: int, *, enabled: bool) -> AsyncIterator[None]:
    """Sample a process inside the block, then print its functions by own time and by time with what they call."""
    if not enabled:
        yield
        return
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        raise SystemExit("--profile needs py-spy: .venv/bin/pip install py-spy")
    file = (WORKROOM / "profile.txt").absolute()
    options = f"record --pid {process_id} --rate {RATE} --format raw --threads --nonblocking --output {file}"
    sampler = await start(program, *options.split(), output=asyncio.subprocess.DEVNULL)
    await asyncio.sleep(1)
    try:
        yield
    finally:
        sampler.send_signal(signal.SIGINT)
        await sampler.wait()
    show(file)


def show(file: Path) -> None:
    """Print the sums of a file of samples; each line is a stack, outermost first, and how often it was seen."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in file.read_text(encoding="utf-8").splitlines():
        stack, _, times = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(times)
        for frame in set(frames):
            whole[frame] += int(times)
    total = sum(own.values())
    for title, counts in (("own time", own), ("with what they call", whole)):
        print(f"\n{title}, of {total} samples in all threads")
        for frame, seen in counts.most_common(MOST_LINES):
            print(f"  {seen / total:6.1%}  {frame}")
    print(f"\nEvery stack: {file}\n")
