"""`python -m chaos.backup.nursery`: starts the services, and those who write and read, by forks of what is imported."""

import os
import sys
from datetime import timedelta

from chaos import nursery
from chaos.backup import moments, traffic
from chaos.backup.mutants import MUTANTS
from chaos.order import Order
from services.backup import retention, swap
from services.backup.__main__ import main as backup

PRE_RESTORE_KEPT_FOR = timedelta(seconds=20)  # no week passes here
WORKERS = {"writer": traffic.writer, "reader": traffic.reader}


def become(order: Order) -> int:
    """Become what is ordered."""
    if order.service in WORKERS:
        return WORKERS[order.service]()
    if order.service != "backup":
        return nursery.become(order)
    if order.cold:
        os.execv(sys.executable, [sys.executable, "-m", "services.backup"])
    swap._PAGES_AT_ONCE = 100  # so that there is a middle, also of a small database
    retention.PRE_RESTORE_KEPT_FOR = PRE_RESTORE_KEPT_FOR
    if order.mutant:
        MUTANTS[order.mutant]()
    if order.window:
        moments.arm(moments.Moment(order.window), passing=order.passing)
    return backup()


if __name__ == "__main__":
    nursery.serve(become)
