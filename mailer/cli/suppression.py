"""`mailer suppression`: addresses that never get mail, whoever asks."""

import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from rich.console import RenderableType

from mailer.cli.command import Commands
from mailer.cli.failure import Failure, usage
from mailer.cli.listing import Limit, print_list
from mailer.cli.output import Column, Output
from mailer.cli.session import QUICK, Session
from mailer.cli.words import count_of, instant
from mailer.v1 import sender_pb2

commands = Commands("Addresses that never get mail, whoever asks.")

_BATCH = 1000
_NAMED = 5
_INDEX = re.compile(r"addresses\[(\d+)\]")


@commands.command()
async def add(
    context: typer.Context,
    addresses: Annotated[list[str] | None, typer.Argument(metavar="[ADDRESS]...", help="Addresses.")] = None,
    *,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One address a line, - for stdin.", allow_dash=True)
    ] = None,
    reason: Annotated[str, typer.Option(help="For whoever reads it later.")] = "",
) -> None:
    """Add addresses; known ones keep their first reason.

    Example: mailer suppression add ada@example.org --reason "asked on the phone"
    """
    if bool(addresses) == (file is not None):
        raise usage("name addresses, or a file with --file.")
    session = Session(context)
    found = _read(file) if file is not None else iter(addresses or ())
    total = sender_pb2.AddSuppressionsResponse()
    batch: list[str] = []
    try:
        async with session.sender() as sender:
            while batch := list(islice(found, _BATCH)):
                request = sender_pb2.AddSuppressionsRequest(request_id=uuid4().hex, addresses=batch, reason=reason)
                total.added_count += (await sender.AddSuppressions(request, timeout=QUICK)).added_count
    except Failure as failure:
        wrong = [(_INDEX.fullmatch(field), description) for field, description in failure.violations.items()]
        named = [f'"{batch[int(index[1])]}": {description.rstrip(".")}' for index, description in wrong if index]
        if named:
            failure.sentence = f"{'; '.join(named[:_NAMED])}{' ...' if len(named) > _NAMED else ''}."
        if total.added_count:
            failure.sentence += f" {count_of(total.added_count, 'address', 'addresses')} before it were added."
        raise
    session.out.answer(total, lambda: f"{count_of(total.added_count, 'address', 'addresses')} added.")


@commands.command()
async def remove(
    context: typer.Context, address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The address.")]
) -> None:
    """Let an address get mail again.

    Example: mailer suppression remove ada@example.org
    """
    session = Session(context)
    async with session.sender() as sender:
        answer = await sender.RemoveSuppression(sender_pb2.RemoveSuppressionRequest(address=address), timeout=QUICK)
    session.out.answer(answer, lambda: f"{address} may get mail again.")


@commands.command("list")
async def list_suppressions(context: typer.Context, *, limit: Limit = 100) -> None:
    """List the addresses in alphabetical order.

    Example: mailer suppression list --limit 0 --json
    """
    session = Session(context)
    async with session.sender() as sender:
        request = sender_pb2.ListSuppressionsRequest()
        table = partial(_table, session.out)
        await print_list(session.out, sender.ListSuppressions, request, "suppressions", table, limit=limit)


def _table(out: Output, suppressions: Iterable[sender_pb2.Suppression]) -> RenderableType | str:
    columns = (Column("address"), Column("why"), Column("since"))
    rows = ((one.address, one.reason, instant(one.create_time)) for one in suppressions)
    return out.table(
        columns, rows, empty="Nobody is on the list. Put somebody on it: mailer suppression add ada@example.org"
    )


def _read(file: Path) -> Iterator[str]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise usage(f"{file} is not UTF-8: save it as UTF-8.") from None
    return iter([line.strip() for line in text.splitlines() if line.strip()])
