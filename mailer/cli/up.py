"""`mailer up`: all three services on this machine, over one database, ended by one Ctrl-C."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from mailer.cli.command import Commands
from mailer.cli.failure import Failure, usage
from mailer.cli.output import Output
from mailer.cli.processes import Ended, Planned, Process, supervise
from mailer.cli.session import Session
from mailer.cli.settings import CommandSettings
from mailer.cli.words import printable
from mailer.config import COMMON_PREFIX, environment
from mailer.tls import ClientTls

commands = Commands()

_STYLES = {"scheduler": "cyan", "sender": "green", "backup": "magenta"}
_WIDTH = max(map(len, _STYLES))
# Who listens everywhere is asked on loopback.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}  # noqa: S104


@commands.command()
async def up(
    context: typer.Context,
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where database, snapshots and keys are; else MAILER_DATA_DIR."),
    ] = None,
    scheduler_port: Annotated[
        int | None, typer.Option(min=0, max=65535, metavar="PORT", help="Default 50051; 0 takes a free one.")
    ] = None,
    sender_port: Annotated[int | None, typer.Option(min=0, max=65535, metavar="PORT", help="Default 50052.")] = None,
    backup_port: Annotated[int | None, typer.Option(min=0, max=65535, metavar="PORT", help="Default 50053.")] = None,
    metrics: Annotated[bool, typer.Option(help="Serve /metrics on the ports of the settings.")] = True,
) -> None:
    """Run all three services on this machine until Ctrl-C or SIGTERM.

    A second Ctrl-C hurries them, a third kills. A service that ends by itself brings the others down, with exit
    status 1. Logs go to stderr.

    Example: mailer up --data-dir data
    """
    session = Session(context)
    planned = plan(session.settings, {"scheduler": scheduler_port, "sender": sender_port, "backup": backup_port})
    if data_dir is not None:
        session.settings = session.settings.model_copy(update={"data_dir": data_dir})
    refuse_misspelt(environment())
    for each in planned:
        refuse_taken(each)
        if metrics:
            refuse_taken_metrics(each.name, session.settings)
    settings = child_environment(environment(), session.settings, planned, metrics=metrics)
    processes: list[Process] = []
    stop = asyncio.Event()
    with _signals(processes, stop):
        try:
            for each in planned:
                processes.append(await Process.start(each, settings, _logger(session.out), parent=os.getpid()))  # noqa: PERF401
        except OSError:
            for process in processes:
                process.stop()
            raise
        try:
            await supervise(
                processes,
                clock=session.clock,
                tls=_tls(session),
                stop=stop,
                on_ready=lambda: _say_ready(session, processes),
                on_stop=lambda: session.out.note("Ending the services; messages at their final dot are finished."),
            )
        except Ended as ended:
            raise Failure(f"{ended}. Everything has been ended.") from None
    session.out.note("Ended.")


def plan(settings: CommandSettings, chosen: Mapping[str, int | None]) -> list[Planned]:
    """Return the services with their ports: as chosen, else as the settings say; 0 becomes a free one."""
    configured = {
        "scheduler": settings.scheduler_port,
        "sender": settings.sender_port,
        "backup": settings.backup_port,
    }
    host = _EVERYWHERE.get(settings.host, settings.host)
    planned = []
    for name, port in configured.items():
        wanted = chosen.get(name)
        planned.append(Planned(name, f"services.{name}", host, (port if wanted is None else wanted) or free_port()))
    taken = [each.port for each in planned]
    if len(set(taken)) < len(taken):
        raise Failure("two services cannot have the same port: choose three different ones.")
    return planned


def child_environment(
    environ: Mapping[str, str], settings: CommandSettings, planned: Sequence[Planned], *, metrics: bool
) -> dict[str, str]:
    """Return the environment of the services: ours, and what the command line decided."""
    result = dict(environ)
    result["PYTHONUNBUFFERED"] = "1"
    result["MAILER_DATA_DIR"] = str(settings.data_dir)
    if settings.log_format == "auto":
        result["MAILER_LOG_FORMAT"] = "text"
    for each in planned:
        result[f"MAILER_{each.name.upper()}_PORT"] = str(each.port)
        if not metrics:
            result[f"MAILER_{each.name.upper()}_METRICS_PORT"] = "0"
        if each.name == "sender":
            result.setdefault("MAILER_SCHEDULER_SENDER_ADDRESS", each.address)
    return result


def refuse_taken(planned: Planned) -> None:
    """Raise Failure when somebody listens there: its health would be taken for that of our service."""
    if is_taken(planned.host, planned.port):
        raise Failure(
            f"port {planned.port} for the {planned.name} is in use: is mailer up running already? "
            f"End it, or choose another port (--{planned.name}-port, MAILER_{planned.name.upper()}_PORT)."
        )


def refuse_taken_metrics(name: str, settings: CommandSettings) -> None:
    """Raise Failure when the port of the service's /metrics is taken."""
    port: int = getattr(settings, f"{name}_metrics_port")
    if port and is_taken(settings.metrics_host, port):
        raise Failure(
            f"port {port} for /metrics of the {name} is in use: set MAILER_{name.upper()}_METRICS_PORT to another "
            "one, or add --no-metrics."
        )


def is_taken(host: str, port: int) -> bool:
    """Say whether somebody listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), port), family=family).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def refuse_misspelt(environ: Mapping[str, str]) -> None:
    """Raise Failure for names that set nothing because the service in them is misspelt: no service looks at those."""
    wrong = []
    for name in sorted(environ):
        service = name.removeprefix(COMMON_PREFIX).partition("_")[0]
        close = get_close_matches(service, [one.upper() for one in _STYLES], n=1, cutoff=0.8)
        if name.startswith(COMMON_PREFIX) and close and close[0] != service:
            wrong.append(f"{name}: there is no such setting; did you mean {name.replace(service, close[0], 1)}?")
    if wrong:
        raise usage("; ".join(wrong))


def _tls(session: Session) -> ClientTls | None:
    """Return how our own services are trusted: as the settings say, else by the certificate they show."""
    certificate = session.settings.tls_certificate_file
    return session.tls or (ClientTls(ca_file=certificate) if certificate is not None else None)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _signals(processes: Sequence[Process], stop: asyncio.Event) -> Iterator[None]:
    """Stop on the first signal; the second is passed on, which hurries the services; the third kills them."""
    count = 0

    def on_signal() -> None:
        nonlocal count
        count += 1
        if count == 1:
            stop.set()
            return
        for process in processes:
            process.stop(signal.SIGTERM if count == 2 else signal.SIGKILL)

    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _logger(out: Output) -> Callable[[str, str], None]:
    def say(name: str, line: str) -> None:
        prefix = Text(f"{name:<{_WIDTH}} | ", style=_STYLES[name])
        out.stderr.print(prefix + Text(printable(line)), soft_wrap=True)

    return say


def _say_ready(session: Session, processes: Sequence[Process]) -> None:
    if session.out.as_json:
        services = [{"name": one.planned.name, "address": one.planned.address, "pid": one.pid} for one in processes]
        session.out.document({"ready": True, "data_dir": str(session.settings.data_dir), "services": services})
        return
    for one in processes:
        name = one.planned.name
        line = Text(f"{name:<{_WIDTH}} ready at {one.planned.address}", style=_STYLES[name])
        session.out.print(line)
    session.out.print(f"Everything is ready; data is in {session.settings.data_dir}. Ctrl-C ends it.")
