"""The built-in inbox, spoken to by aiosmtplib and by hand."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiosmtplib
import pytest
import trustme

from mailer.inbox import Entry, Event, Inbox, read_journal
from mailer.secrets import Secret
from tests.fakes.clock import FakeClock

MESSAGE = b"Message-ID: <1@example.com>\r\nSubject: Hi\r\n\r\n.dot first\r\nbye\r\n"


@pytest.fixture
async def inbox(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Inbox]:
    inbox = Inbox(tmp_path / "mail", clock)
    inbox.add("first")
    inbox.add("second")
    async with inbox:
        yield inbox


async def connected(inbox: Inbox, name: str = "first") -> aiosmtplib.SMTP:
    listener = inbox.listener(name)
    client = aiosmtplib.SMTP(hostname=listener.host, port=listener.port, start_tls=False, local_hostname="tests")
    await client.connect()
    return client


async def send(inbox: Inbox, name: str = "first", *, to: str = "ada@example.com") -> str:
    client = await connected(inbox, name)
    async with client:
        return (await client.sendmail("news@example.com", [to], MESSAGE))[1]


def entries(inbox: Inbox, event: Event) -> list[Entry]:
    return [entry for entry in read_journal(inbox.directory) if entry.event is event]


def kept(inbox: Inbox) -> list[Path]:
    return sorted(inbox.directory.glob("*.eml"))


async def test_an_accepted_message_is_a_file_with_its_very_bytes(inbox: Inbox) -> None:
    await send(inbox)
    assert [path.read_bytes() for path in kept(inbox)] == [MESSAGE]


async def test_the_journal_tells_envelope_message_id_and_file(inbox: Inbox, clock: FakeClock) -> None:
    await send(inbox, "second")
    (entry,) = entries(inbox, Event.ACCEPTED)
    assert entry == Entry(
        time=clock.now(),
        listener="second",
        port=inbox.listener("second").port,
        connection=1,
        event=Event.ACCEPTED,
        mail_from="news@example.com",
        recipients=("ada@example.com",),
        message_id="<1@example.com>",
        file=kept(inbox)[0].name,
        size_bytes=len(MESSAGE),
    )


async def test_the_journal_tells_when_a_client_came_and_when_it_spoke_first(inbox: Inbox, clock: FakeClock) -> None:
    came = clock.now()
    reader, writer = await asyncio.open_connection("127.0.0.1", inbox.listener("first").port)
    assert (await reader.readline()).startswith(b"220 ")
    clock.step_wall_clock(2)
    writer.write(b"EHLO tests\r\n")
    assert (await reader.readline()).startswith(b"250-")
    writer.close()
    assert [entry.time - came for entry in read_journal(inbox.directory)] == [
        timedelta(0),
        timedelta(seconds=2),
    ]


async def test_non_ascii_addresses_come_through(inbox: Inbox) -> None:
    client = await connected(inbox)
    async with client:
        await client.mail("news@example.com", options=["SMTPUTF8"], encoding="utf-8")
        await client.rcpt("zoë@exämple.com", encoding="utf-8")
        await client.data(MESSAGE)
    assert entries(inbox, Event.ACCEPTED)[0].recipients == ("zoë@exämple.com",)


async def test_pipelined_commands_are_answered_in_their_order(inbox: Inbox) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", inbox.listener("first").port)
    await reader.readline()
    writer.write(b"EHLO tests\r\n")
    announced: list[bytes] = []
    while not announced or announced[-1].startswith(b"250-"):
        announced.append(await reader.readline())
    transaction = b"MAIL FROM:<news@example.com>\r\nRCPT TO:<%s>\r\nDATA\r\n"
    body = b"Subject: Hi\r\n\r\nbye\r\n.\r\n"
    # The body of each message travels with the commands of the next: one round trip a message.
    writer.write(transaction % b"a@example.com" + body + transaction % b"b@example.com" + body + b"QUIT\r\n")
    answers = [line[:3] for line in (await reader.read()).splitlines()]
    writer.close()
    assert b"250-PIPELINING\r\n" in announced
    assert answers == [b"250", b"250", b"354", b"250"] * 2 + [b"221"]
    assert [entry.recipients for entry in entries(inbox, Event.ACCEPTED)] == [
        ("a@example.com",),
        ("b@example.com",),
    ]


async def test_data_without_a_recipient_is_refused_and_noted(inbox: Inbox) -> None:
    client = await connected(inbox)
    async with client:
        await client.mail("news@example.com")
        with pytest.raises(aiosmtplib.SMTPDataError):
            await client.data(MESSAGE)
    assert [entry.reply[:3] for entry in entries(inbox, Event.REFUSED)] == ["503"]
    assert kept(inbox) == []


async def test_a_failing_listener_answers_421_to_new_connections(inbox: Inbox, clock: FakeClock) -> None:
    inbox.listener("first").fail(until=clock.now() + timedelta(seconds=3))
    with pytest.raises(aiosmtplib.SMTPConnectError, match=r"4\.3\.2"):
        await connected(inbox)
    assert entries(inbox, Event.REFUSED)[0].reply.startswith("421")


async def test_a_failing_listener_says_goodbye_to_open_connections(inbox: Inbox, clock: FakeClock) -> None:
    client = await connected(inbox)
    inbox.listener("first").fail(until=clock.now() + timedelta(seconds=3))
    with pytest.raises(aiosmtplib.SMTPSenderRefused) as refused:
        await client.sendmail("news@example.com", ["ada@example.com"], MESSAGE)
    client.close()
    assert refused.value.code == 421


async def test_a_pipelining_client_reads_both_the_250_and_the_goodbye(inbox: Inbox, clock: FakeClock) -> None:
    listener = inbox.listener("first")
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"EHLO tests\r\nMAIL FROM:<news@example.com>\r\nRCPT TO:<ada@example.com>\r\nDATA\r\n")
    await reader.readuntil(b"354 ")
    await reader.readline()
    listener.fail(until=clock.now() + timedelta(seconds=3))
    writer.write(b"Subject: Hi\r\n\r\nbye\r\n.\r\nMAIL FROM:<news@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
    answers = [line[:3] for line in (await reader.read()).splitlines()]
    writer.close()
    assert answers == [b"250", b"421"]


async def test_a_failure_ends_at_its_time(inbox: Inbox, clock: FakeClock) -> None:
    inbox.listener("first").fail(until=clock.now() + timedelta(seconds=3))
    clock.step_wall_clock(3)
    assert "Kept as" in await send(inbox)


async def test_a_failure_ends_when_the_listener_recovers(inbox: Inbox, clock: FakeClock) -> None:
    inbox.listener("first").fail(until=clock.now() + timedelta(days=1))
    inbox.listener("first").recover()
    assert "Kept as" in await send(inbox)


async def test_one_listener_fails_while_the_other_works(inbox: Inbox, clock: FakeClock) -> None:
    inbox.listener("first").fail(until=clock.now() + timedelta(days=1))
    assert "Kept as" in await send(inbox, "second")


async def test_a_closed_listener_refuses_connections_and_opens_again_on_its_port(inbox: Inbox) -> None:
    listener = inbox.listener("first")
    port = listener.port
    await listener.close()
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await connected(inbox)
    await listener.open()
    assert listener.port == port
    assert "Kept as" in await send(inbox)


async def test_closing_ends_open_connections(inbox: Inbox) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", inbox.listener("first").port)
    await reader.readline()
    await inbox.listener("first").close()
    assert await reader.read() == b""
    writer.close()


async def test_a_delay_is_waited_for_after_the_message_is_stored(inbox: Inbox, clock: FakeClock) -> None:
    inbox.listener("first").delay = 0.25
    sending = asyncio.create_task(send(inbox))
    while not clock.sleepers:
        await asyncio.sleep(0.001)
    assert len(kept(inbox)) == 1
    assert not sending.done()
    await clock.advance(0.25)
    await sending


async def test_a_message_that_cannot_be_stored_is_refused_for_now(inbox: Inbox) -> None:
    client = await connected(inbox)
    async with client:
        inbox.directory.joinpath("journal.jsonl").unlink()
        inbox.directory.rmdir()
        with pytest.raises(aiosmtplib.SMTPDataError) as refused:
            await client.sendmail("news@example.com", ["ada@example.com"], MESSAGE)
    assert refused.value.code == 452


async def test_mail_is_accepted_only_after_authentication_where_there_is_a_user(
    tmp_path: Path, clock: FakeClock
) -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    inbox = Inbox(tmp_path / "mail", clock)
    listener = inbox.add("guarded", user="ada", password=Secret("correct horse"), tls=server_side)
    async with inbox:
        client = aiosmtplib.SMTP(
            hostname="localhost",
            port=listener.port,
            start_tls=True,
            tls_context=client_side,
            local_hostname="tests",
        )
        async with client:
            with pytest.raises(aiosmtplib.SMTPSenderRefused) as refused:
                await client.mail("news@example.com")
            assert refused.value.code == 530
            with pytest.raises(aiosmtplib.SMTPAuthenticationError):
                await client.login("ada", "wrong")
            await client.login("ada", "correct horse")
            await client.sendmail("news@example.com", ["ada@example.com"], MESSAGE)
    assert len(kept(inbox)) == 1


async def test_authentication_is_not_offered_where_there_is_no_user(inbox: Inbox) -> None:
    client = await connected(inbox)
    async with client:
        await client.ehlo()
        assert not client.supports_extension("auth")


async def test_a_later_inbox_adds_to_the_folder(inbox: Inbox, clock: FakeClock) -> None:
    await send(inbox)
    again = Inbox(inbox.directory, clock)
    again.add("first")
    async with again:
        # The same instant and the same number: names must differ all the same.
        clock.step_wall_clock(0.000001)
        await send(again)
    assert len(kept(inbox)) == len(entries(inbox, Event.ACCEPTED)) == 2


def test_a_name_that_would_leave_the_folder_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        Inbox(tmp_path, clock).add("../first")
