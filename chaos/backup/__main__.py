"""`python -m chaos.backup`: kill the backup service, and count. Exit status 0 when every promise was kept.

The last line is one JSON object, counted from the diaries of those who wrote and read, and from the files themselves.
"""

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from time import monotonic

import grpc

from chaos.backup.assault import Assault, Wedged
from chaos.backup.campaigns import Campaigns
from chaos.backup.judge import Verdict, judge
from chaos.backup.mutants import MUTANTS
from chaos.backup.plan import Life, plan
from chaos.backup.scene import Scene

PROGRESS_KILLS = 25
LIFE_SECONDS = 120.0
REST_SECONDS = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status for the command line."""
    parser = argparse.ArgumentParser(
        prog="chaos.backup", description="Kill the backup service at every phase while others write, and count."
    )
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="how often to kill it")
    parser.add_argument("--seed", type=int, default=None, help="repeat the plan of an earlier run")
    parser.add_argument("--mutant", choices=list(MUTANTS), default="", help="take one rule out: it must be noticed")
    parser.add_argument("--directory", type=Path, default=Path("data/chaos/backup"), help="emptied at the start")
    options = parser.parse_args(arguments)
    # Also where it was started in the background of a script, which lets its children ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"SEED={seed} repeats this plan", flush=True)
    shutil.rmtree(options.directory, ignore_errors=True)
    options.directory.mkdir(parents=True)
    try:
        verdict = asyncio.run(prove(Scene(options.directory, seed, options.mutant), kills=options.kills))
    except KeyboardInterrupt:
        print("interrupted: everything that was started is ended", file=sys.stderr)
        return 130
    for promise in verdict.broken:
        print(f"BROKEN: {promise}", flush=True)
    print(verdict.last_line)
    return 1 if verdict.broken else 0


async def prove(scene: Scene, *, kills: int) -> Verdict:
    """Attack a system of its own, and judge what came out."""
    start = monotonic()
    async with scene:
        campaigns, assault = Campaigns(scene.system), Assault(scene)
        observed = assault.observed
        try:
            await campaigns.prepare()
            async with _used(campaigns) as using:
                await _attack(assault, plan(kills=kills, random=Random(scene.system.seed)), using, start)
            async with asyncio.timeout(REST_SECONDS):
                await assault.rest()
                observed.surprises += [f"{name} ended by itself" for name in await scene.dismiss_traffic()]
                await assault.look_at_live()
                observed.unfinished = await campaigns.rest()
                observed.suppressed = len(campaigns.suppressed)
                observed.lost["the books of the sender"] = await campaigns.forgotten()
        except (Wedged, TimeoutError, grpc.aio.AioRpcError) as error:
            why = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            observed.surprises.append(f"it does not go on: {why or 'something took too long'}")
            scene.take_notes()
        observed.copies = campaigns.copies
        observed.surprises += [f"a {one.order.service} ended by itself" for one in scene.workers if one.has_ended]
    print(f"\n{observed.kills.total()} kills, at rest after {monotonic() - start:.0f} s")
    for name, count in sorted(observed.kills.items()):
        print(f"  killed {name:48} {count:6,}")
    return judge(observed)


@asynccontextmanager
async def _used(campaigns: Campaigns) -> AsyncIterator["asyncio.Task[None]"]:
    """Let people use the system while the block runs."""
    using = asyncio.create_task(campaigns.run())
    try:
        yield using
        if using.done():
            using.result()
    finally:
        using.cancel()
        await asyncio.gather(using, return_exceptions=True)


async def _attack(assault: Assault, lives: Iterable[Life], using: "asyncio.Task[None]", start: float) -> None:
    await assault.prepare()
    for number, life in enumerate(lives, 1):
        try:
            async with asyncio.timeout(LIFE_SECONDS):
                await assault.live(life)
        except TimeoutError as error:
            raise Wedged(
                f"life {number} ({life.moment or life.operation}): {str(error) or 'it did not end'}"
            ) from error
        if using.done():
            using.result()
        if number % PROGRESS_KILLS == 0:
            seen = assault.observed
            print(f"  {number} kills, {len(seen.locks)} restores, {monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
