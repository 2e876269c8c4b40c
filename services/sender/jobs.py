"""Claimed deliveries that wait in memory for a connection: one short queue per run, taken in turns.

Turns are what makes a run of a hundred finish in seconds behind a run of a million.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from mailer.message.mime import RenderedMessage
from mailer.v1 import sender_pb2
from services.sender.dots import Dot, Dots
from services.sender.entries import Streak
from services.sender.outbox import Claimed
from services.sender.shelf import Program
from services.sender.states import Policy

A = TypeVar("A")


@dataclass(slots=True)
class Job:
    """A claimed delivery with everything that decides how it is sent."""

    claimed: Claimed
    message: RenderedMessage | None  # None: to be rendered when its turn comes
    life: str  # of the database (its incarnation) in which it was claimed
    dots: Dots  # of the worker under whose name it was claimed
    program: Program
    policy: Policy
    allowed: frozenset[str]
    needs_smtputf8: bool
    retry: sender_pb2.RetryPolicy
    streak: Streak
    tries: int = 0  # attempts under this claim
    quick_tries: int = 0  # of them, those that the path to a server ended
    avoid: frozenset[str] = frozenset()  # accounts that just failed it
    is_plain: bool = False  # leave out the optional parameters of SMTP
    dot: Dot | None = None  # of the present attempt, once it is on the wire, or about to be

    @property
    def run_id(self) -> str:
        """Return the run it belongs to."""
        return self.claimed.run_id


class Queues:
    """The jobs of all runs.

    Those of a run that need SMTPUTF8 stand in a queue of their own: while no account takes them, the others go on.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._by_kind: OrderedDict[_Kind, deque[Job]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return self._count

    def count_of(self, run_id: str) -> int:
        """Return how many jobs of a run wait."""
        return sum(len(self._by_kind.get((run_id, kind), ())) for kind in (False, True))

    def add(self, jobs: Iterable[Job]) -> None:
        """Append jobs to the queues of their runs."""
        for job in jobs:
            self._by_kind.setdefault(_kind_of(job), deque()).append(job)
            self._count += 1

    def put_back(self, job: Job) -> None:
        """Put a job in front: it has waited longest."""
        self._by_kind.setdefault(_kind_of(job), deque()).appendleft(job)
        self._count += 1

    def take(self, admit: Callable[[Job], A | None]) -> tuple[Job, A] | None:
        """Return the next job that `admit` lets in, with what it answered; runs take turns.

        Only the first job of each run is asked for: if it cannot be admitted, those behind it wait as well.
        """
        for kind in list(self._by_kind):
            queue = self._by_kind[kind]
            admission = admit(queue[0])
            if admission is None:
                continue
            job = queue.popleft()
            self._count -= 1
            if queue:
                self._by_kind.move_to_end(kind)
            else:
                del self._by_kind[kind]
            return job, admission
        return None

    def remove_run(self, run_id: str) -> list[Job]:
        """Take all jobs of a run out."""
        return [*self._remove((run_id, False)), *self.remove_smtputf8(run_id)]

    def remove_smtputf8(self, run_id: str) -> list[Job]:
        """Take those jobs of a run out that need SMTPUTF8."""
        return self._remove((run_id, True))

    def has_smtputf8(self, run_id: str) -> bool:
        """Say whether a run has jobs here that need SMTPUTF8."""
        return (run_id, True) in self._by_kind

    def clear(self) -> list[Job]:
        """Take all jobs out."""
        jobs = [job for queue in self._by_kind.values() for job in queue]
        self._by_kind.clear()
        self._count = 0
        return jobs

    def run_ids(self) -> list[str]:
        """Return the runs that have jobs here, next in turn first."""
        return list(dict.fromkeys(run_id for run_id, _ in self._by_kind))

    def _remove(self, kind: "_Kind") -> list[Job]:
        queue = self._by_kind.pop(kind, deque())
        self._count -= len(queue)
        return list(queue)


_Kind = tuple[str, bool]


def _kind_of(job: Job) -> _Kind:
    return job.run_id, job.needs_smtputf8
