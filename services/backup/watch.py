"""Says aloud, in health, figures and log, when snapshots stop being taken."""

from mailer.clock import Clock
from mailer.log import get_logger
from mailer.server import GrpcServer
from services.backup.keeper import Keeper

log = get_logger(__name__)

SCHEDULE_HEALTH = "mailer.v1.Backup.schedule"
"""A name of its own in the health service: a late snapshot must not keep anybody from taking one."""

COPIES_HEALTH = "mailer.v1.Backup.copies"
"""The same for copies off the machine that are late."""

_SECONDS = 60.0


async def watch(keeper: Keeper, server: GrpcServer, clock: Clock) -> None:
    """Look every minute, until cancelled."""
    stale = late = False
    while True:
        health = await keeper.health()
        if health.stale and not stale:
            log.error("snapshots are not taken as the schedule says", why=health.status.failure)
        stale = health.stale
        await server.report(SCHEDULE_HEALTH, serving=not stale)
        if health.copies.late and not late:
            log.error("snapshots are not copied off the machine", why=health.copies.failure)
        late = health.copies.late
        await server.report(COPIES_HEALTH, serving=not late)
        await clock.sleep(_SECONDS)
