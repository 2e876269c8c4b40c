"""`python -m chaos.nursery`: starts services on order, most of them by a fork of what is imported already.

Importing takes far longer than starting, and a thousand kills need a thousand starts. A fork is a process of its own
that runs the same `main`; a cold start is `python -m services.sender` to the letter. Orders come as lines of JSON on
standard input; the answer to each is the process id.
"""

import gc
import json
import os
import signal
import sys
from collections.abc import Callable

from chaos.mutants import MUTANTS
from chaos.order import Order
from chaos.parent import die_with_parent
from services.scheduler.__main__ import main as scheduler
from services.sender.__main__ import main as sender
from services.sender.failpoints import Window, arm

SERVICES = {"sender": sender, "scheduler": scheduler}


def main() -> None:
    """Fork senders and schedulers."""
    serve(become)


def serve(run: Callable[[Order], int]) -> None:
    """Fork until standard input ends, and let each child run its order; what was forked dies with this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the harness, which ends us
    gc.collect()
    gc.freeze()
    for line in sys.stdin.buffer:
        order = Order(**json.loads(line))
        process_id = os.fork()
        if process_id == 0:
            _leave_home(order)
            os._exit(run(order))
        os.write(1, f"{process_id}\n".encode())


def become(order: Order) -> int:
    """Become the service."""
    if order.cold:
        module = ["chaos.mutant", order.mutant] if order.mutant else [f"services.{order.service}"]
        os.execv(sys.executable, [sys.executable, "-m", *module])
    if order.mutant:
        MUTANTS[order.mutant]()
    if order.window:
        arm(Window(order.window), passing=order.passing)
    return SERVICES[order.service]()


def _leave_home(order: Order) -> None:
    """Let nothing of the nursery show in the child."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(order.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(order.environment)


if __name__ == "__main__":
    main()
