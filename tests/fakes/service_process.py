"""`python -m tests.fakes.service_process`: a service with a health service and nothing else, on MAILER_FAKE_PORT."""

import asyncio
import os

from prometheus_client import CollectorRegistry

from mailer.clock import SystemClock
from mailer.server import GrpcServer


async def main() -> None:
    """Serve until a signal, and say so."""
    server = GrpcServer(
        [],
        host="127.0.0.1",
        port=int(os.environ["MAILER_FAKE_PORT"]),
        clock=SystemClock(),
        registry=CollectorRegistry(),
    )
    await server.start()
    await server.run_until_signal()
    print("drained", flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
