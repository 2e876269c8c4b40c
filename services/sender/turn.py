"""One turn of feeding in SQL: all that it gives back, puts off, gives up and claims, in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from mailer.database import portable
from services.sender import outbox
from services.sender.counts import Changes
from services.sender.outbox import Claimed, Postponed

MOST_PROMOTED = 1000
EXPIRED_AT_ONCE = 500


@portable
def take_turn(
    connection: Connection,
    wanted: Mapping[str, int],
    stalled: Sequence[str],
    returned: Sequence[Claimed],
    postponed: Sequence[Postponed],
    *,
    is_due: bool,
    worker: str,
    now: datetime,
) -> tuple[list[Claimed], datetime | None, frozenset[str]]:
    """Claim so many of each run in `wanted`. Return the claims, when the next deferred one is due, and what changed.

    Of runs that are `stalled`, what has expired is given up; `is_due`: what was deferred until now is looked for.
    """
    changes = Changes()
    outbox.release(connection, returned, now=now, changes=changes)
    outbox.postpone(connection, postponed, now=now, changes=changes)
    next_due = outbox.promote_due(connection, now=now, most=MOST_PROMOTED, changes=changes) if is_due else None
    for run_id in stalled:
        outbox.expire_oldest(connection, run_id=run_id, most=EXPIRED_AT_ONCE, now=now, changes=changes)
    claimed = [
        one
        for run_id, most in wanted.items()
        for one in outbox.claim(connection, run_id=run_id, most=most, worker=worker, now=now, changes=changes)
    ]
    changes.apply(connection)
    return claimed, next_due, changes.run_ids


def give_back(connection: Connection, returned: Sequence[Claimed], now: datetime) -> None:
    """Put claims back that nobody will use."""
    changes = Changes()
    outbox.release(connection, returned, now=now, changes=changes)
    changes.apply(connection)
