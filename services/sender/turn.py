"""One turn of feeding in SQL: all that it gives back, puts off, gives up and claims, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from mailer.database import Unfinished, portable
from mailer.message.mime import RenderedMessage
from services.sender import outbox
from services.sender.counts import Changes
from services.sender.outbox import Claimed, Postponed
from services.sender.press import Press

MOST_PROMOTED = 1000
EXPIRED_AT_ONCE = 500

_press = Press()  # of this process; only its writer comes here


@dataclass(slots=True)
class Turn(Unfinished):
    """What a turn came to."""

    claimed: list[Claimed]
    run_ids: frozenset[str]  # that changed
    messages: list[RenderedMessage | None] = field(default_factory=list)  # of `claimed`, see `Press`

    def finish(self) -> None:
        """Render, now that nobody waits for the transaction."""
        self.messages = _press.render(self.claimed)


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
) -> Turn:
    """Claim so many of each run in `wanted`.

    Of runs that are `stalled`, what has expired is given up. `is_due`: what was deferred until now goes back into the
    queue.
    """
    changes = Changes()
    outbox.release(connection, returned, now=now, changes=changes)
    outbox.postpone(connection, postponed, now=now, changes=changes)
    if is_due:
        outbox.promote_due(connection, now=now, most=MOST_PROMOTED, changes=changes)
    for run_id in stalled:
        outbox.expire_oldest(connection, run_id=run_id, most=EXPIRED_AT_ONCE, now=now, changes=changes)
    claimed = [
        one
        for run_id, most in wanted.items()
        for one in outbox.claim(connection, run_id=run_id, most=most, worker=worker, now=now, changes=changes)
    ]
    changes.apply(connection)
    _press.learn(list({one.content_hash for one in claimed}), partial(outbox.read_content, connection))
    return Turn(claimed, changes.run_ids)


def give_back(connection: Connection, returned: Sequence[Claimed], now: datetime) -> None:
    """Put claims back that nobody will use."""
    changes = Changes()
    outbox.release(connection, returned, now=now, changes=changes)
    changes.apply(connection)
