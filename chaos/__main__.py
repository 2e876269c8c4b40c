"""`python -m chaos`: kill, judge, and say what became of every message. Exit status 0 when every promise was kept.

The last line is one JSON object, counted from the file of the SMTP server and from the books over gRPC.
"""

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic

from chaos.assault import Assault
from chaos.feed import CONNECTIONS, POLICIES, Feed
from chaos.judge import Observed, Verdict, both, judge
from chaos.plan import plan
from chaos.system import System
from chaos.watch import Watch


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status for the command line."""
    parser = argparse.ArgumentParser(prog="chaos", description="Kill the services at every instant, and count.")
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="processes to kill, for each policy")
    parser.add_argument("--policy", choices=[*POLICIES, "both"], default="both", help="what is promised")
    parser.add_argument("--messages", type=int, default=0, metavar="N", help="messages to send at least")
    parser.add_argument(
        "--recovery", type=float, default=5.0, metavar="SECONDS", help="from a start to the first message, at most"
    )
    parser.add_argument("--seed", type=int, default=None, help="repeat the plan of an earlier run")
    parser.add_argument(
        "--mutant", choices=["intent", "mark", "token"], default="", help="take one rule out: it must be noticed"
    )
    parser.add_argument("--directory", type=Path, default=Path("data/chaos"), help="emptied at the start")
    options = parser.parse_args(arguments)
    # Also where it was started in the background of a script, which lets its children ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"SEED={seed} repeats this plan", flush=True)
    verdicts = []
    for policy in list(POLICIES) if options.policy == "both" else [options.policy]:
        directory = options.directory / policy
        shutil.rmtree(directory, ignore_errors=True)
        system = System(directory, seed, options.mutant)
        verdict = asyncio.run(
            prove(system, policy, kills=options.kills, messages=options.messages, recovery_seconds=options.recovery)
        )
        for promise in verdict.broken:
            print(f"BROKEN: {promise}", flush=True)
        print(verdict.last_line, flush=True)
        verdicts.append(verdict)
    if len(verdicts) > 1:
        print(both(verdicts).last_line)
    return 1 if any(verdict.broken for verdict in verdicts) else 0


async def prove(system: System, policy: str, *, kills: int, messages: int, recovery_seconds: float) -> Verdict:
    """Attack a system of its own under one policy, and judge what came out."""
    start = monotonic()
    async with system:
        watch = Watch(system.record_file)
        feed = Feed(system, watch, policy)
        assault = Assault(system, feed, watch)
        await assault.prepare()
        await assault.attack(plan(kills=kills, random=Random(system.seed)))
        killing = monotonic() - start
        await assault.rest(messages=messages)
        booked = await feed.read_books()
        watch.look()
    observed = Observed(
        policy=policy,
        given=feed.given,
        events=watch.events,
        booked=booked,
        kills=assault.kills.total(),
        deaths=assault.deaths,
        recoveries=[*assault.recoveries["forked"], *assault.recoveries["cold"]],
        surprises=assault.surprises,
    )
    print(f"\n{policy}: {assault.kills.total()} kills in {killing:.0f} s, then rest until {monotonic() - start:.0f} s")
    states = Counter(one.state for one in booked.values())
    for title, counts in (
        ("killed", assault.kills),
        ("writer killed", assault.writer_kills),
        ("contest", assault.contests),
        ("booked", states),
    ):
        for name, count in sorted(counts.items()):
            print(f"  {title} {name:36} {count:8,}")
    for name, seconds in assault.recoveries.items():
        if seconds:
            print(f"  {name} start to first message: median {median(seconds):.2f} s, longest {max(seconds):.2f} s")
    return judge(observed, most_connections=CONNECTIONS, recovery_seconds=recovery_seconds)


if __name__ == "__main__":
    sys.exit(main())
