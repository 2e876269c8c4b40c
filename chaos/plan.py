"""Which lives the sender leads, and how each ends: decided before it begins, by the seed alone. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from services.sender.failpoints import Window

# The end comes at a passing that is drawn from 1 to this: early enough that most lives last less than a second.
_PASSINGS = {Window.AFTER_CLAIM: 2, Window.AFTER_CONNECT: 4, Window.AFTER_COMMIT: 20}
_PASSINGS_OF_MESSAGES = 40
_LONGEST_LIFE = 0.8


class Kind(Enum):
    """How a life of the sender ends."""

    AT_WINDOW = auto()
    WITH_SCHEDULER = auto()  # at a random time, both in the same instant
    COLD = auto()  # at a random time after its first message; started by `python -m services.sender`, not by a fork


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the sender, from its start to the kill.

    A companion is a second sender on the same database, which lives through several lives of the first.
    """

    kind: Kind
    window: Window | None = None
    passing: int = 0
    seconds: float = 0.0
    kills_scheduler_first: bool = False  # before its own end
    has_companion: bool = False
    pauses_campaigns: bool = False  # and resumes them, while both senders have claims
    freezes_companion: bool = False  # SIGSTOP for longer than a rescuer waits
    kills_writer: bool = False  # the process that writes for it, while it is at work; the sender has to go on
    kills_writer_before: bool = False  # the same, and the sender in the next instant

    @property
    def kill_count(self) -> int:
        """Return how many services are killed in it."""
        return 1 + self.kills_scheduler_first + (self.kind is Kind.WITH_SCHEDULER)


def plan(*, kills: int, random: Random) -> Iterator[Life]:
    """Yield lives with at least so many kills: every dozen has each window, random times, the scheduler and both."""
    done = 0
    while done < kills:
        for life in _round(random):
            yield life
            done += life.kill_count
            if done >= kills:
                return


def _round(random: Random) -> list[Life]:
    ends: list[Window | Kind] = [*Window, Kind.COLD]
    random.shuffle(ends)
    # In its middle life a companion is frozen while the first sender starts and works: long enough to be tempted to
    # rescue what is not dead.
    middle = random.randrange(1, len(ends))
    ends.insert(middle, Kind.WITH_SCHEDULER)
    scheduler_in = random.randrange(len(ends))
    return [
        Life(
            kind=Kind.AT_WINDOW if isinstance(end, Window) else end,
            window=end if isinstance(end, Window) else None,
            passing=random.randint(1, _PASSINGS.get(end, _PASSINGS_OF_MESSAGES)) if isinstance(end, Window) else 0,
            seconds=random.uniform(0, _LONGEST_LIFE),
            kills_scheduler_first=index == scheduler_in,
            has_companion=abs(index - middle) <= 1,
            pauses_campaigns=index == middle - 1,
            freezes_companion=index == middle,
            # Where it has had the time to begin.
            kills_writer=end is Kind.COLD,
            kills_writer_before=end is Kind.WITH_SCHEDULER,
        )
        for index, end in enumerate(ends)
    ]
