"""`python -m benchmarks`: every benchmark in turn, in sizes that take less than a quarter of an hour together.

The last line is one JSON object with the last line of each.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE

# Alone (`make bench-growth` and the like) they are larger.
PARTS = {
    "send": [],
    "latency": [],
    "growth": ["--budget", "90"],
    "due": ["--old-deliveries", "1000000"],
    "imports": ["--rounds", "3"],
    "fairness": [],
    "books": ["--messages", "5000"],
    "backup": ["--rounds", "1", "--deadline", "20"],
}


async def run_part(name: str, options: list[str]) -> dict[str, object] | None:
    """Run one, with what it says on our own output; return its figures, or None when it did not finish."""
    # A line may be long: the last one has all figures.
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.child", str(os.getpid()), *command, stdout=PIPE, limit=1 << 20
    )
    assert process.stdout is not None
    line = b""
    async for line in process.stdout:
        sys.stdout.write(line.decode())
        sys.stdout.flush()
    if await process.wait() != 0:
        return None
    found: dict[str, object] = json.loads(line)
    return found


async def main(*, keep: bool) -> int:
    """Run all; return the exit status: 1 when one of them did not finish."""
    found = {}
    for name, options in PARTS.items():
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        found[name] = await run_part(name, [*options, *(["--keep"] if keep else [])])
        print(f"== {name} took {time.monotonic() - began:.0f} s", flush=True)
    print(json.dumps(found))
    return 1 if None in found.values() else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks", description="Every benchmark in turn.")
    parser.add_argument("--keep", action="store_true", help="write files and plots into benchmarks/results")
    try:
        sys.exit(asyncio.run(main(keep=parser.parse_args().keep)))
    except KeyboardInterrupt:
        sys.exit(130)
