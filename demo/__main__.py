"""`python -m demo`: the main job on real input, judged by what arrived. Exit status 0 when every figure is right.

Two SMTP accounts of our own, one of which fails for a while: its circuit opens, the other takes over, it closes again.
The last line is one JSON object. `sent`, `duplicates` and `due_to_first_byte_ms` are counted in the inbox; `failed`,
`unknown` and the circuits are what the services' books say; `lost` is who is in neither. Books and inbox are compared,
delivery by delivery: where they differ, the demo fails.
"""

import argparse
import asyncio
import csv
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import grpc

from demo.folder import FolderRefused, claim
from demo.judge import Arrived, Books, judge, mistakes
from demo.system import System
from mailer.client import readable
from mailer.clock import SystemClock
from mailer.inbox import Inbox, Listener
from mailer.message.address import mailbox_key
from mailer.v1 import backup_pb2, scheduler_pb2, sender_pb2
from mailer.wire import to_duration, to_timestamp

EXAMPLES = Path(__file__).parent.parent / "examples"
DIRECTORY = Path("data/demo")
FROM = sender_pb2.Mailbox(address="bakery@bakery.example", display_name="Saltwind Bakery")
START_IN = timedelta(seconds=2)
FAILS_AFTER = 1.0
FAILS_FOR = timedelta(seconds=2)
# Longer than the account fails, even with the jitter taken off: the first probe comes through.
CIRCUIT_REST = timedelta(seconds=3)
PATIENCE = 45.0

clock = SystemClock()


async def main(directory: Path) -> int:
    """Run the main job with everything it keeps in the directory; return the exit status."""
    inbox = Inbox(directory / "inbox", clock)
    harbour, market = inbox.add("harbour"), inbox.add("market")
    say("Starting the scheduler, the sender and the backup service, and an inbox with two SMTP accounts")
    async with inbox, System(directory) as system:
        for listener in (harbour, market):
            await add_account(system, listener)
        campaign, imported = await prepare(system)
        due = clock.now() + START_IN
        await system.scheduler.ScheduleCampaign(
            scheduler_pb2.ScheduleCampaignRequest(
                request_id=uuid4().hex,
                campaign_id=campaign.campaign_id,
                schedule=scheduler_pb2.Schedule(send_time=to_timestamp(due)),
            ),
            timeout=10,
        )
        say(f"Scheduled for {due:%H:%M:%S} UTC; a second later the account market fails for {FAILS_FOR.seconds} s")
        trouble = asyncio.create_task(fail(market, START_IN.total_seconds() + FAILS_AFTER))
        campaign = await follow(system, campaign.campaign_id)
        await trouble
        snapshot, is_listed, is_verified = await back_up(system)
        accounts = (await system.sender.ListAccounts(sender_pb2.ListAccountsRequest(), timeout=10)).accounts
        rejected = {one.index for one in imported.rejected}
        expected = [row["address"] for index, row in enumerate(rows()) if index not in rejected]
        arrived = judge(inbox.directory, expected, due=due)
        books = await read_books(system, campaign)
        figures = {
            "recipients": imported.accepted_count,
            "rejected": imported.rejected_count,
            "sent": arrived.sent,
            "failed": campaign.latest_run.counts.failed_count,
            "unknown": campaign.latest_run.counts.unknown_count,
            "duplicates": arrived.duplicates,
            "lost": len(arrived.missing - books.others),
            "circuit_opened": sum(account.circuit.opened_count for account in accounts),
            "circuit_closed": sum(account.circuit.closed_count for account in accounts),
            "due_to_first_byte_ms": first_byte_ms(arrived, due),
            "snapshot": snapshot.snapshot_id if is_listed else "",
            "snapshot_verified": is_verified,
        }
    explain(directory, figures)
    wrong = mistakes(figures, arrived, books)
    for mistake in wrong:
        print(f"WRONG: {mistake}")
    print(json.dumps(figures))
    return 1 if wrong else 0


async def add_account(system: System, listener: Listener) -> None:
    """Add an account at one of the inbox's ports and see that it works."""
    account = sender_pb2.Account(
        name=listener.name,
        host=listener.host,
        port=listener.port,
        tls_mode=sender_pb2.TLS_MODE_NONE,
        from_addresses=["@bakery.example"],
        max_connection_count=4,
        caps=sender_pb2.AccountCaps(per_second_count=40),
        circuit_policy=sender_pb2.CircuitPolicy(rest=to_duration(CIRCUIT_REST)),
    )
    created = await system.sender.CreateAccount(
        sender_pb2.CreateAccountRequest(request_id=uuid4().hex, account=account), timeout=10
    )
    verified = await system.sender.VerifyAccount(
        sender_pb2.VerifyAccountRequest(account_id=created.account.account_id), timeout=10
    )
    say(f"Account {listener.name} on port {listener.port}: {'works' if verified.verified else verified.description}")


async def prepare(system: System) -> tuple[scheduler_pb2.Campaign, scheduler_pb2.AddRecipientsResponse]:
    """Store the template and the campaign, and import the recipients."""
    content = sender_pb2.MessageContent(
        from_address=FROM,
        subject="{{ name }}, your bread this winter",
        text=(EXAMPLES / "newsletter.txt").read_text(encoding="utf-8"),
        html=(EXAMPLES / "newsletter.html").read_text(encoding="utf-8"),
        headers=[
            sender_pb2.Header(
                name="List-Unsubscribe", value="<https://bakery.example/leave?who={{ address|urlencode }}>"
            )
        ],
    )
    template = await system.scheduler.CreateTemplate(
        scheduler_pb2.CreateTemplateRequest(
            request_id=uuid4().hex, template=scheduler_pb2.Template(name="Winter", content=content)
        ),
        timeout=10,
    )
    created = await system.scheduler.CreateCampaign(
        scheduler_pb2.CreateCampaignRequest(
            request_id=uuid4().hex,
            campaign=scheduler_pb2.Campaign(name="Winter bread", template_id=template.template.template_id),
        ),
        timeout=10,
    )
    imported = await system.scheduler.AddRecipients(requests(created.campaign.campaign_id), timeout=60)
    say(f"Imported {imported.accepted_count} recipients, {imported.rejected_count} lines rejected:")
    for one in imported.rejected:
        print(f"      line {one.index + 2}: {one.address!r} {one.description}")
    return created.campaign, imported


def rows() -> list[dict[str, str]]:
    """Return the lines of the example list."""
    with (EXAMPLES / "recipients.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def to_recipient(row: dict[str, str]) -> sender_pb2.Recipient:
    """Return a line as a recipient; a cell that looks like JSON is read as JSON, a missing one is no variable."""
    recipient = sender_pb2.Recipient(address=row["address"], display_name=row["name"] or "")
    recipient.variables.update(
        {
            name: json.loads(cell) if cell.startswith(("[", "{")) else cell
            for name, cell in row.items()
            if name != "address" and cell
        }
    )
    return recipient


async def requests(campaign_id: str) -> AsyncIterator[scheduler_pb2.AddRecipientsRequest]:
    """Yield the list in messages of a hundred."""
    everybody = [to_recipient(row) for row in rows()]
    for start in range(0, len(everybody), 100):
        yield scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id, recipients=everybody[start : start + 100])


async def fail(listener: Listener, after: float) -> None:
    """Let an account fail for a while."""
    await clock.sleep(after)
    listener.fail(until=clock.now() + FAILS_FOR)
    await clock.sleep(FAILS_FOR.total_seconds())


async def follow(system: System, campaign_id: str) -> scheduler_pb2.Campaign:
    """Show the progress until the campaign has ended, and return it."""
    campaign = scheduler_pb2.Campaign()
    shown = 0.0
    async with asyncio.timeout(PATIENCE):
        call = system.scheduler.WatchCampaign(scheduler_pb2.WatchCampaignRequest(campaign_id=campaign_id))
        try:
            async for update in call:
                campaign = update.campaign
                if time.monotonic() - shown >= 0.5 or campaign.state == scheduler_pb2.Campaign.STATE_FINISHED:
                    shown = time.monotonic()
                    await show(system, update)
        finally:
            call.cancel()
    return campaign


async def show(system: System, update: scheduler_pb2.WatchCampaignResponse) -> None:
    """Print one line of progress."""
    counts = update.campaign.latest_run.counts
    accounts = (await system.sender.ListAccounts(sender_pb2.ListAccountsRequest(), timeout=10)).accounts
    parts = [f"{counts.sent_count:3} sent"]
    parts += [
        f"{count} {word}"
        for count, word in (
            (counts.deferred_count, "deferred"),
            (counts.failed_count, "failed"),
            (counts.unknown_count, "unknown"),
        )
        if count
    ]
    # Short enough for a narrow terminal: what is as it should be is not said.
    parts += [f"{one.name}'s circuit {circuit_name(one)}" for one in accounts if circuit_name(one) != "closed"]
    state = scheduler_pb2.Campaign.State.Name(update.campaign.state).removeprefix("STATE_").lower()
    say(f"{state:9} {update.sent_per_second:3.0f}/s {', '.join(parts)}")


def circuit_name(account: sender_pb2.Account) -> str:
    """Return where the circuit of an account stands, as a word."""
    return sender_pb2.Circuit.State.Name(account.circuit.state).removeprefix("STATE_").lower()


async def back_up(system: System) -> tuple[backup_pb2.Snapshot, bool, bool]:
    """Take a snapshot; return it, whether it is listed, and whether it could be verified."""
    created = await system.backup.Create(
        backup_pb2.BackupCreateRequest(request_id=uuid4().hex, note="after the demo"), timeout=60
    )
    snapshot = created.snapshot
    listed = await system.backup.List(backup_pb2.BackupListRequest(), timeout=10)
    verified = await system.backup.Verify(backup_pb2.BackupVerifyRequest(snapshot_id=snapshot.snapshot_id), timeout=60)
    is_verified = verified.snapshot.state == backup_pb2.Snapshot.STATE_OK
    say(f"Snapshot {snapshot.snapshot_id}: {snapshot.size_bytes} bytes, {'verified' if is_verified else 'DAMAGED'}")
    return snapshot, any(one.snapshot_id == snapshot.snapshot_id for one in listed.snapshots), is_verified


async def read_books(system: System, campaign: scheduler_pb2.Campaign) -> Books:
    """Return what the sender's books say about the campaign's run, delivery by delivery."""
    sent: set[str] = set()
    others: set[str] = set()
    token = ""
    while True:
        page = await system.sender.ListDeliveries(
            sender_pb2.ListDeliveriesRequest(run_id=campaign.latest_run.run_id, page_size=1000, page_token=token),
            timeout=10,
        )
        for delivery in page.deliveries:
            is_sent = delivery.state == sender_pb2.DELIVERY_STATE_SENT
            (sent if is_sent else others).add(mailbox_key(delivery.address))
        token = page.next_page_token
        if not token:
            return Books(frozenset(sent), frozenset(others), campaign.latest_run.counts.sent_count)


def first_byte_ms(arrived: Arrived, due: datetime) -> float | None:
    """Return the milliseconds from the due time to the first SMTP command that an account saw."""
    if arrived.first_byte_time is None:
        return None
    return round((arrived.first_byte_time - due).total_seconds() * 1000, 1)


def explain(directory: Path, figures: Mapping[str, object]) -> None:
    """Print the summary for people."""
    print(
        f"""
{figures["sent"]} of {figures["recipients"]} recipients have their message, {figures["duplicates"]} came twice, \
{figures["lost"]} are lost.
The circuit of the failing account opened {figures["circuit_opened"]} time(s) and closed {figures["circuit_closed"]} \
time(s); the other account took over.
The first byte went out {figures["due_to_first_byte_ms"]} ms after the campaign was due.

Where to look
  the mail        {directory}/inbox/*.eml, and what happened when in {directory}/inbox/journal.jsonl
  the logs        {directory}/logs/*.log
  the database    {directory}/mailer.db, and its snapshot in {directory}/backups

The services of the demo have ended. To ask them what they did, start them again over the same folder
  MAILER_DATA_DIR={directory} make up
and in another terminal
  .venv/bin/mailer campaign list
  grpcurl -plaintext 127.0.0.1:50051 list mailer.v1.Scheduler
  grpcurl -plaintext -d '{{"page_size": 3}}' 127.0.0.1:50052 mailer.v1.Sender/ListDeliveries
  grpcurl -plaintext 127.0.0.1:50053 mailer.v1.Backup/List
"""
    )


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{clock.now():%H:%M:%S} {text}", flush=True)


async def until_told(directory: Path) -> int:
    """Run the main job; Ctrl-C, SIGTERM and SIGHUP end it and its services in good order."""
    job = asyncio.create_task(main(directory))
    told: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        told.append(number)
        job.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await job
    except asyncio.CancelledError:
        if not told:
            raise
        with suppress(OSError):  # the terminal may be what has gone
            print(f"\nInterrupted: the services have ended, their logs are in {directory}/logs.", file=sys.stderr)
        return 128 + told[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="demo", description="The main job on real input, judged by what arrived.")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where everything goes; emptied first")
    chosen = parser.parse_args().directory
    try:
        with claim(chosen):
            sys.exit(asyncio.run(until_told(chosen)))
    except FolderRefused as refused:
        sys.exit(f"The demo did not begin: {refused}.")
    except grpc.aio.AioRpcError as refused:
        sys.exit(f"The demo ended early: {readable(refused)} The logs are in {chosen}/logs.")
    except (RuntimeError, TimeoutError) as trouble:
        sys.exit(f"The demo ended early: {str(trouble) or 'it took too long'}. The logs are in {chosen}/logs.")
