"""What the command lines of all benchmarks have in common."""

import argparse
import asyncio
import sys
from collections.abc import Coroutine, Mapping
from typing import TypeVar

import grpc

from benchmarks.peers import PeerMissing
from benchmarks.product import Stuck
from benchmarks.programs import ProgramFailed
from benchmarks.rounds import Row, Series, interleave
from mailer.client import readable

T = TypeVar("T")


class Command:
    """A command line with the options `--rounds` and `--only`."""

    def __init__(self, name: str, description: str | None, *, rounds: int = 5) -> None:
        """Take the name of the module and its docstring."""
        first_line = (description or "").split("\n", maxsplit=1)[0]
        self.parser = argparse.ArgumentParser(prog=f"benchmarks.{name}", description=first_line)
        self.parser.add_argument("--rounds", type=int, default=rounds, help="how often each row is measured")
        self.parser.add_argument("--only", default="", help="rows, separated by commas; no file is written then")
        self._options = argparse.Namespace()

    def parse(self) -> argparse.Namespace:
        """Read the command line."""
        self._options = self.parser.parse_args()
        return self._options

    @property
    def is_whole(self) -> bool:
        """Say whether no row was left out."""
        return not self._options.only

    def measure(self, rows: Mapping[str, Row]) -> dict[str, Series]:
        """Measure the rows that were asked for."""
        only = [name for name in self._options.only.split(",") if name]
        if unknown := set(only) - rows.keys():
            self.parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
        return run(interleave({name: rows[name] for name in only or rows}, self._options.rounds))


def run(work: Coroutine[object, object, T]) -> T:
    """Run to the end; what stands in the way is said in one line."""
    try:
        return asyncio.run(work)
    except grpc.aio.AioRpcError as error:
        sys.exit(f"The benchmark did not finish: {readable(error)}")
    except (PeerMissing, ProgramFailed, Stuck, TimeoutError) as trouble:
        sys.exit(f"The benchmark did not finish: {str(trouble) or 'it took too long'}.")
