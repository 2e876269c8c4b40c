"""What the command lines of all benchmarks have in common."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

import grpc

from benchmarks.peers import PeerMissing
from benchmarks.product import Stuck
from benchmarks.programs import ProgramFailed
from benchmarks.rounds import Row, Series, interleave
from mailer.client import readable

T = TypeVar("T")


class Command:
    """A command line, with the options `--rounds` and `--only` where there are rows to measure."""

    def __init__(self, name: str, description: str | None, *, rounds: int | None = 5) -> None:
        """Take the name of the module and its docstring; `rounds` is None where there are no rows."""
        first_line = (description or "").split("\n", maxsplit=1)[0]
        self.parser = argparse.ArgumentParser(prog=f"benchmarks.{name}", description=first_line)
        self.parser.add_argument("--keep", action="store_true", help="write file and plot into benchmarks/results")
        if rounds is not None:
            self.parser.add_argument("--rounds", type=int, default=rounds, help="how often each row is measured")
            self.parser.add_argument("--only", default="", help="rows, separated by commas")
        self._options = argparse.Namespace()

    def parse(self) -> argparse.Namespace:
        """Read the command line."""
        self._options = self.parser.parse_args()
        return self._options

    def measure(
        self,
        rows: Mapping[str, Row],
        *,
        extra: Collection[str] = (),
        within: AbstractAsyncContextManager[object] | None = None,
    ) -> dict[str, Series]:
        """Measure the rows that were asked for: those that are `extra` only by name.

        `within` is what all rows and rounds share, entered before the first.
        """
        only = [name for name in self._options.only.split(",") if name]
        if unknown := set(only) - rows.keys():
            self.parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
        names = only or [name for name in rows if name not in extra]
        asked = {name: rows[name] for name in names}
        return run(_interleave_within(within or nullcontext(), asked, self._options.rounds))


async def _interleave_within(
    shared: AbstractAsyncContextManager[object], rows: Mapping[str, Row], rounds: int
) -> dict[str, Series]:
    async with shared:
        return await interleave(rows, rounds)


def run(work: Coroutine[object, object, T]) -> T:
    """Run to the end; what stands in the way is said in one line. SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return asyncio.run(work)
    except grpc.aio.AioRpcError as error:
        sys.exit(f"The benchmark did not finish: {readable(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    except (PeerMissing, ProgramFailed, Stuck, TimeoutError) as trouble:
        sys.exit(f"The benchmark did not finish: {str(trouble) or 'it took too long'}.")
