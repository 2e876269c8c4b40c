"""Which lives the backup service leads, and how each ends: decided before it begins, by the seed alone. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from chaos.backup.moments import PASSINGS, Moment, Operation

# Killed from outside, at a random time after the call: so often in each round.
_AT_RANDOM = {
    Operation.START: 1,
    Operation.CREATE: 4,
    Operation.RESTORE: 5,
    Operation.PRUNE: 1,
    Operation.VERIFY: 1,
}
# About twice as long as the operation takes when nothing else is going on.
_LONGEST = {
    Operation.START: 0.3,
    Operation.CREATE: 0.4,
    Operation.RESTORE: 0.8,
    Operation.PRUNE: 0.05,
    Operation.VERIFY: 0.3,
}


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the backup service, from its start to the kill in the middle of an operation."""

    operation: Operation
    moment: Moment | None = None  # None: at a random time
    passing: int = 0
    seconds: float = 0.0  # from the call to the kill
    is_streamed: bool = False  # asked for with progress
    is_cold: bool = False  # started by `python -m services.backup`, not by a fork
    choice: float = 0.0  # which of the snapshots, from the oldest (0) to the newest (1)


def plan(*, kills: int, random: Random) -> Iterator[Life]:
    """Yield so many lives; every round has each moment once, and random times between."""
    done = 0
    while True:
        for life in _round(random):
            if done == kills:
                return
            yield life
            done += 1


def _round(random: Random) -> list[Life]:
    ends: list[Moment | Operation] = [*Moment]
    for operation, count in _AT_RANDOM.items():
        ends += [operation] * count
    random.shuffle(ends)
    cold = ends.index(Operation.CREATE), ends.index(Operation.RESTORE)
    return [_life(end, random, is_cold=index in cold) for index, end in enumerate(ends)]


def _life(end: Moment | Operation, random: Random, *, is_cold: bool) -> Life:
    is_moment = isinstance(end, Moment)
    operation = end.operation if isinstance(end, Moment) else end
    return Life(
        operation=operation,
        moment=end if isinstance(end, Moment) else None,
        passing=random.randint(1, PASSINGS.get(end, 1)) if isinstance(end, Moment) else 0,
        seconds=0.0 if is_moment else random.uniform(0, _LONGEST[operation]),
        is_streamed=random.random() < 0.5,
        is_cold=is_cold,
        choice=random.random(),
    )
