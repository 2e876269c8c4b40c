"""Campaigns come into being: create, import, schedule. Every step can be repeated by itself."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from mailer.cli import content_options, schedule_options
from mailer.cli.account_options import duration
from mailer.cli.campaign_view import campaign_details, due_text
from mailer.cli.content_options import ContentOptions
from mailer.cli.exit_code import ExitCode
from mailer.cli.failure import Failure, usage
from mailer.cli.listing import account_id, campaign_id, collect, one_of_several
from mailer.cli.listing import template_id as find_template
from mailer.cli.output import to_dict
from mailer.cli.question import Yes, confirm
from mailer.cli.recipients_import import Imported, check_file, import_file
from mailer.cli.schedule_options import ScheduleOptions
from mailer.cli.session import QUICK, Session
from mailer.v1 import scheduler_pb2, scheduler_pb2_grpc, sender_pb2

_DELIVERY = "Delivery"


class Policy(StrEnum):
    """What is promised after a crash."""

    AT_MOST_ONCE = "at-most-once"
    AT_LEAST_ONCE = "at-least-once"


_POLICIES = {
    Policy.AT_MOST_ONCE: sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE,
    Policy.AT_LEAST_ONCE: sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE,
}

Which = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Name or id.")]
RequestId = Annotated[
    str | None, typer.Option(metavar="ID", help="Makes the call repeatable: the same id creates nothing twice.")
]


async def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option(help="Name for people.")],
    template: content_options.File = None,
    text: content_options.TextFile = None,
    template_id: Annotated[
        str | None, typer.Option(metavar="TEMPLATE", help="A stored template, instead.", rich_help_panel="Content")
    ] = None,
    subject: content_options.Subject = None,
    from_address: content_options.From = None,
    reply_to: content_options.ReplyTo = None,
    cc: content_options.Cc = None,
    bcc: content_options.Bcc = None,
    headers: content_options.Headers = None,
    attachments: content_options.Attachments = None,
    recipients: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Who gets it: a CSV file, - for stdin.", allow_dash=True)
    ] = None,
    strict: Annotated[bool, typer.Option(help="Schedule nothing when a line of the file is not taken.")] = False,
    at: schedule_options.At = None,
    zone: schedule_options.Zone = None,
    fold: schedule_options.WhichFold = None,
    now: schedule_options.Now = False,
    cron: schedule_options.Cron = None,
    max_lateness: schedule_options.MaxLateness = None,
    policy: Annotated[
        Policy | None, typer.Option(help="After a crash. Default at-most-once.", rich_help_panel=_DELIVERY)
    ] = None,
    accounts: Annotated[
        list[str] | None,
        typer.Option("--account", help="Only this account; may be repeated.", rich_help_panel=_DELIVERY),
    ] = None,
    expire_after: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Give up then. Default 48h.", rich_help_panel=_DELIVERY)
    ] = None,
    request_id: RequestId = None,
    yes: Yes = False,
) -> None:
    """Create a campaign; with --recipients import them, with --at, --cron or --now schedule it.

    Example: mailer campaign create --name winter --template t.html --text t.txt --subject "Hello {{ name }}"
    --from "Ida <ida@example.org>" --recipients people.csv --at "2026-12-01 09:00" --zone Europe/Berlin
    """
    given = locals()
    session = Session(context)
    # Whatever can be wrong on the command line is found before anything is stored.
    when = ScheduleOptions(**{key: given[key] for key in ScheduleOptions.__dataclass_fields__})
    schedule = when.to_schedule(now=session.clock.now())
    content, fields = ContentOptions(**{key: given[key] for key in ContentOptions.__dataclass_fields__}).to_content()
    if bool(fields) == bool(template_id):
        raise usage("say what is sent: --template-id alone, or --template with --subject and --from.")
    if schedule is not None and recipients is None:
        raise usage("nothing can be scheduled without recipients: add --recipients people.csv, or schedule it later.")
    if recipients is not None and str(recipients) != "-" and not recipients.is_file():
        raise usage(f"{recipients} is no file: check the name.")
    if recipients is not None:
        check_file(recipients)
    key = request_id or uuid4().hex
    campaign = scheduler_pb2.Campaign(name=name)
    campaign.options.CopyFrom(await _delivery_options(session, policy, accounts or (), expire_after))
    async with session.scheduler() as scheduler:
        # The same request id creates nothing twice: only without one can this be a second campaign.
        if not (yes or request_id):
            await _ask_about_namesakes(scheduler, name)
        if template_id:
            campaign.template_id = await find_template(scheduler, template_id)
        else:
            campaign.content.CopyFrom(content)
        request = scheduler_pb2.CreateCampaignRequest(request_id=key, campaign=campaign)
        campaign = (await scheduler.CreateCampaign(request, timeout=QUICK)).campaign
    session.out.note(f"Created the campaign {campaign.campaign_id}.")
    try:
        imported = None
        if recipients is not None:
            imported = await _import(session, campaign.campaign_id, recipients, strict=strict)
        due = None
        if schedule is not None:
            due = await _schedule(session, campaign.campaign_id, schedule, key=f"{key}:schedule")
    except Failure as failure:
        # Something was done: the campaign is there.
        if failure.exit_code is ExitCode.USAGE:
            failure.exit_code = ExitCode.REFUSED
        failure.sentence += f" The campaign is kept as a draft: go on with {campaign.campaign_id}."
        raise
    async with session.scheduler() as scheduler:
        answer = await scheduler.GetCampaign(
            scheduler_pb2.GetCampaignRequest(campaign_id=campaign.campaign_id), timeout=QUICK
        )
    if session.out.as_json:
        document = to_dict(answer)
        document["import"] = imported.document() if imported else None
        document["due_times"] = to_dict(due)["due_times"] if due else []
        session.out.document(document)
        return
    session.out.print(campaign_details(session.out, answer.campaign, zone=when.named_zone()))
    session.out.note(_next_step(answer.campaign, imported=imported is not None, due=due), style="dim")


async def import_recipients(
    context: typer.Context,
    campaign: Which,
    recipients: Annotated[Path, typer.Argument(metavar="CSV", help="A CSV file, - for stdin.", allow_dash=True)],
    *,
    strict: Annotated[bool, typer.Option(help="Exit status 1 when a line is not taken.")] = False,
) -> None:
    """Add the recipients of a CSV file; importing it again adds nobody twice.

    The first line names the columns: address (or email), name, and any variables. A cell that begins with [ or { is
    JSON.

    Example: mailer campaign import winter people.csv
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        wanted = await campaign_id(scheduler, campaign)
    imported = await _import(session, wanted, recipients, strict=strict)
    if session.out.as_json:
        session.out.document(imported.document())


async def schedule(
    context: typer.Context,
    campaign: Which,
    *,
    at: schedule_options.At = None,
    zone: schedule_options.Zone = None,
    fold: schedule_options.WhichFold = None,
    now: schedule_options.Now = False,
    cron: schedule_options.Cron = None,
    max_lateness: schedule_options.MaxLateness = None,
    dry_run: Annotated[bool, typer.Option(help="Check everything, change nothing.")] = False,
    request_id: RequestId = None,
) -> None:
    """Schedule a draft, or move a scheduled campaign.

    Example: mailer campaign schedule winter --cron "0 9 * * 1" --zone Europe/Berlin
    """
    options = ScheduleOptions(at=at, zone=zone, fold=fold, now=now, cron=cron, max_lateness=max_lateness)
    session = Session(context)
    chosen = options.required(now=session.clock.now())
    async with session.scheduler() as scheduler:
        wanted = await campaign_id(scheduler, campaign)
    answer = await _schedule(session, wanted, chosen, key=request_id or uuid4().hex, dry_run=dry_run)
    began = "It would go out" if dry_run else "It goes out"
    times = due_text(answer.due_times, options.named_zone()) or "now"
    session.out.answer(answer, lambda: f"{began}: {times}")


async def _import(session: Session, wanted: str, path: Path, *, strict: bool) -> Imported:
    async with session.scheduler() as scheduler:
        imported = await import_file(session, scheduler, wanted, path)
    session.out.note(imported.summary())
    if imported.rejected and not session.out.as_json:
        session.out.print(imported.bad_lines(session.out))
    if not imported.accepted_count and not imported.duplicate_count:
        why = "there is no line behind the first"
        if imported.rejected:
            why = f"no line was taken, the first in line {imported.rejected[0].line}: {imported.rejected[0].reason}"
        raise Failure(f"nobody was imported, {why.rstrip('.')}. Correct the file and import it again.")
    if strict and imported.rejected_count:
        raise Failure("not every line was taken, and --strict was asked for: correct the file and import it again.")
    return imported


async def _ask_about_namesakes(scheduler: "scheduler_pb2_grpc.SchedulerAsyncStub", name: str) -> None:
    """Ask before a second campaign gets a name that one has: most often the command was only repeated."""
    known = await collect(scheduler.ListCampaigns, scheduler_pb2.ListCampaignsRequest(), "campaigns")
    namesakes = [one for one in known.campaigns if one.name == name]
    if namesakes:
        those = "; ".join(map(one_of_several, namesakes[:5]))
        confirm(f'There is a campaign "{name}" already: {those}. Create another one?', yes=False)


async def _schedule(
    session: Session, wanted: str, chosen: scheduler_pb2.Schedule, *, key: str, dry_run: bool = False
) -> scheduler_pb2.ScheduleCampaignResponse:
    request = scheduler_pb2.ScheduleCampaignRequest(
        request_id=key, campaign_id=wanted, schedule=chosen, validate_only=dry_run
    )
    async with session.scheduler() as scheduler:
        return await scheduler.ScheduleCampaign(request, timeout=QUICK)


async def _delivery_options(
    session: Session, policy: Policy | None, accounts: Sequence[str], expire_after: str | None
) -> sender_pb2.DeliveryOptions:
    options = sender_pb2.DeliveryOptions()
    if policy is not None:
        options.policy = _POLICIES[policy]
    if expire_after is not None:
        options.expire_after.CopyFrom(duration(expire_after, "--expire-after"))
    if accounts:
        async with session.sender() as sender:
            options.account_ids.extend([await account_id(sender, account) for account in accounts])
    return options


def _next_step(
    campaign: scheduler_pb2.Campaign, *, imported: bool, due: scheduler_pb2.ScheduleCampaignResponse | None
) -> str:
    if due is not None:
        return f"Follow it: mailer campaign watch {campaign.campaign_id}"
    if imported:
        return f"Send it: mailer campaign schedule {campaign.campaign_id} --now (or --at, or --cron)"
    return f"Add recipients: mailer campaign import {campaign.campaign_id} people.csv"
