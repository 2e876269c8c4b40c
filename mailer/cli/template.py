"""`mailer template`: content under a name."""

from functools import partial
from typing import Annotated
from uuid import uuid4

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from mailer.cli import content_options as options
from mailer.cli.command import Commands
from mailer.cli.failure import usage
from mailer.cli.listing import Limit, print_list, template_id
from mailer.cli.question import Yes, confirm
from mailer.cli.session import QUICK, Session
from mailer.cli.template_view import template_details, template_table
from mailer.v1 import scheduler_pb2

commands = Commands("Content under a name, for any number of campaigns. A template is named by its name or id.")

Which = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Name or id.")]


@commands.command()
async def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option(help="Name for people, unique.")],
    template: options.File = None,
    text: options.TextFile = None,
    subject: options.Subject = None,
    from_address: options.From = None,
    reply_to: options.ReplyTo = None,
    cc: options.Cc = None,
    bcc: options.Bcc = None,
    headers: options.Headers = None,
    attachments: options.Attachments = None,
) -> None:
    """Store a template after checking every part of it.

    Example: mailer template create --name winter --template t.html --text t.txt --subject "Hello" --from n@example.org
    """
    given = {name: value for name, value in locals().items() if name not in {"context", "name"}}
    session = Session(context)
    content, _ = options.ContentOptions(**given).to_content()
    request = scheduler_pb2.CreateTemplateRequest(
        request_id=uuid4().hex, template=scheduler_pb2.Template(name=name, content=content)
    )
    async with session.scheduler() as scheduler:
        answer = await scheduler.CreateTemplate(request, timeout=QUICK)
    session.out.answer(answer, lambda: template_details(session.out, answer.template))
    session.out.note(f'Use it: mailer campaign create --name ... --template-id "{name}"', style="dim")


@commands.command("list")
async def list_templates(context: typer.Context, *, limit: Limit = 100) -> None:
    """List the templates by name.

    Example: mailer template list
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        request = scheduler_pb2.ListTemplatesRequest()
        table = partial(template_table, session.out)
        await print_list(session.out, scheduler.ListTemplates, request, "templates", table, limit=limit)


@commands.command()
async def show(context: typer.Context, template: Which) -> None:
    """Show a template with its content.

    Example: mailer template show winter
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        request = scheduler_pb2.GetTemplateRequest(template_id=await template_id(scheduler, template))
        answer = await scheduler.GetTemplate(request, timeout=QUICK)
    session.out.answer(answer, lambda: template_details(session.out, answer.template, whole=True))


@commands.command()
async def update(
    context: typer.Context,
    which: Which,
    *,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    template: options.File = None,
    text: options.TextFile = None,
    subject: options.Subject = None,
    from_address: options.From = None,
    reply_to: options.ReplyTo = None,
    cc: options.Cc = None,
    bcc: options.Bcc = None,
    headers: options.Headers = None,
    attachments: options.Attachments = None,
) -> None:
    """Change what is named, and nothing else; runs that have begun keep the content they began with.

    Example: mailer template update winter --template t.html
    """
    given = {name: value for name, value in locals().items() if name not in {"context", "which", "name"}}
    session = Session(context)
    content, fields = options.ContentOptions(**given).to_content()
    paths = [f"content.{field}" for field in fields] + (["name"] if name is not None else [])
    if not paths:
        raise usage("nothing to change was named; see mailer template update --help.")
    changed = scheduler_pb2.Template(name=name or "", content=content)
    async with session.scheduler() as scheduler:
        changed.template_id = await template_id(scheduler, which)
        request = scheduler_pb2.UpdateTemplateRequest(template=changed, update_mask=FieldMask(paths=paths))
        answer = await scheduler.UpdateTemplate(request, timeout=QUICK)
    session.out.answer(answer, lambda: template_details(session.out, answer.template))


@commands.command()
async def remove(context: typer.Context, template: Which, *, yes: Yes = False) -> None:
    """Remove a template that no unfinished campaign uses.

    Example: mailer template remove old --yes
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        wanted = await template_id(scheduler, template)
        confirm(f'Remove the template "{template}"?', yes=yes)
        answer = await scheduler.DeleteTemplate(scheduler_pb2.DeleteTemplateRequest(template_id=wanted), timeout=QUICK)
    session.out.answer(answer, lambda: f"{template} is removed.")
