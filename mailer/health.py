"""`python -m mailer.health HOST:PORT ...`: ask servers how they are, for health checks of containers.

Exit status 0 when every one of them is SERVING, else 1 with a line for each that is not.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mailer.client import connect, readable
from mailer.errors import CannotStart
from mailer.tls import ClientTls


async def ask(address: str, *, service: str = "", tls: ClientTls | None = None, timeout: float = 3.0) -> str:
    """Return "SERVING", another status of the gRPC health service, or why there is no answer.

    An empty `service` asks for the server as a whole; `timeout` is in seconds.
    """
    async with connect(address, tls=tls) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return readable(error)
        status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status for the command line."""
    parser = argparse.ArgumentParser(prog="mailer.health", description="Ask servers how they are.")
    parser.add_argument("addresses", nargs="+", metavar="HOST:PORT")
    parser.add_argument("--service", default="", help="for example mailer.v1.Sender; default: the whole server")
    parser.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--ca-file", type=Path, help="speak TLS, and trust this authority")
    parser.add_argument("--certificate-file", type=Path, help="show this certificate")
    parser.add_argument("--key-file", type=Path, help="the key of the certificate")
    options = parser.parse_args(arguments)
    tls = (
        ClientTls(options.ca_file, options.certificate_file, options.key_file)
        if options.ca_file or options.certificate_file
        else None
    )
    try:
        answers = asyncio.run(_ask_all(options.addresses, options.service, tls, options.timeout))
    except CannotStart as problem:
        answers = {"mailer.health": str(problem)}
    unwell = {address: answer for address, answer in answers.items() if answer != "SERVING"}
    for address, answer in unwell.items():
        sys.stdout.write(f"{address}: {answer}\n")
    return 1 if unwell else 0


async def _ask_all(addresses: Sequence[str], service: str, tls: ClientTls | None, timeout: float) -> dict[str, str]:
    answers = await asyncio.gather(*(ask(address, service=service, tls=tls, timeout=timeout) for address in addresses))
    return dict(zip(addresses, answers, strict=True))


if __name__ == "__main__":
    sys.exit(main())
