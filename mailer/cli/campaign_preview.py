"""`mailer campaign preview`: the message of one recipient, as it would be sent."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from mailer.cli.csv_file import Person, cell_value
from mailer.cli.failure import usage
from mailer.cli.listing import campaign_id, template_id
from mailer.cli.output import Output
from mailer.cli.recipients_import import fill_recipient
from mailer.cli.session import QUICK, Session
from mailer.cli.words import printable, size
from mailer.v1 import scheduler_pb2, sender_pb2


class Part(StrEnum):
    """Which part of a message is shown."""

    TEXT = "text"
    HTML = "html"
    BOTH = "both"
    RAW = "raw"


async def preview(
    context: typer.Context,
    campaign: Annotated[str | None, typer.Argument(metavar="[CAMPAIGN]", help="Name or id.")] = None,
    *,
    template: Annotated[str | None, typer.Option(metavar="TEMPLATE", help="A stored template, instead.")] = None,
    to: Annotated[str, typer.Option(metavar="ADDRESS", help="For whom. Default: its first recipient.")] = "",
    variables: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="For somebody who is no recipient.")
    ] = None,
    part: Annotated[Part, typer.Option(help="What to show.")] = Part.BOTH,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the whole message to an .eml file.")] = None,
) -> None:
    """Render the message of one recipient exactly as it would be sent; sends nothing.

    Example: mailer campaign preview winter --to ada@example.org --save ada.eml
    """
    if (campaign is None) == (template is None):
        raise usage("name a campaign, or a template with --template.")
    session = Session(context)
    request = scheduler_pb2.PreviewMessageRequest()
    if to or variables:
        request.recipient.CopyFrom(_recipient(to, variables or ()))
    async with session.scheduler() as scheduler:
        if campaign is not None:
            request.campaign_id = await campaign_id(scheduler, campaign)
        elif template is not None:
            request.template_id = await template_id(scheduler, template)
        answer = await scheduler.PreviewMessage(request, timeout=QUICK)
    if save is not None:
        save.write_bytes(answer.message)
        session.out.note(f"Written to {save}.")
    session.out.answer(answer, lambda: _shown(session.out, answer, part))


def _recipient(address: str, variables: Sequence[str]) -> sender_pb2.Recipient:
    values = {}
    for text in variables:
        name, sign, value = text.partition("=")
        if not sign:
            raise usage(f'--var "{text}": write NAME=VALUE, such as city=Ulm.')
        try:
            values[name] = cell_value(value)
        except ValueError as error:
            raise usage(f'--var "{text}" looks like JSON and is none: {error}.') from None
    recipient = sender_pb2.Recipient()
    fill_recipient(recipient, Person(0, address or "somebody@example.org", str(values.get("name", "")), values))
    return recipient


def _shown(out: Output, answer: scheduler_pb2.PreviewMessageResponse, part: Part) -> RenderableType:
    if part is Part.RAW:
        return Text(printable(answer.message.decode("utf-8", errors="replace").replace("\r\n", "\n")))
    parts: list[RenderableType] = [
        out.fields(
            [
                ("subject", answer.subject),
                ("goes to", ", ".join(answer.envelope_recipients)),
                ("size", size(answer.size_bytes)),
            ]
        )
    ]
    for name, text in (("text", answer.text), ("html", answer.html)):
        if text and part in {Part.BOTH, Part(name)}:
            parts += [Text(f"\n{name}", style="bold"), Text(printable(text))]
    return Group(*parts)
