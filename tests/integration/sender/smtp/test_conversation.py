"""Messages over an open connection: what is written, what comes back, and what belongs to what."""

from collections.abc import AsyncIterator

import pytest

from services.sender.replies import Action, Event, Stage, judge
from services.sender.smtp import Accepted, Envelope, NotAccepted, ReadyForDot
from tests.fakes.smtp_server import DEFAULT, EXTENSIONS, Drop, Script, SmtpServer, Trickle, refuse
from tests.integration.sender.smtp.conftest import Connect

MESSAGE = b"Subject: hello\r\n\r\n.a line with a dot\r\n..two\r\nthe end\r\n"
ADA = Envelope("news@example.org", ("ada@example.net",))
BOB = Envelope("news@example.org", ("bob@example.net",))
NO_PIPELINING = tuple(word for word in EXTENSIONS if word != "PIPELINING")


@pytest.fixture(params=[EXTENSIONS, NO_PIPELINING], ids=["pipelining", "one by one"])
async def either_server(request: pytest.FixtureRequest) -> AsyncIterator[SmtpServer]:
    async with SmtpServer(extensions=request.param) as running:
        yield running


async def test_a_message_arrives_byte_for_byte_over_every_kind_of_connection(
    any_server: SmtpServer, connect: Connect
) -> None:
    conversation = await connect(any_server)
    assert await conversation.begin(ADA, MESSAGE) == ReadyForDot()
    assert any_server.accepted == []
    outcome = await conversation.finish()
    assert isinstance(outcome, Accepted)
    assert judge(outcome.incident).action is Action.SENT
    (mail,) = any_server.accepted
    assert (mail.sender, mail.recipients, mail.content) == (ADA.sender, ADA.recipients, MESSAGE)
    assert conversation.is_usable
    await conversation.quit()
    assert any_server.commands[-1] == "QUIT"


@pytest.mark.parametrize(
    "message",
    [
        b".\r\n",
        b"",
        b"no line end",
        b"..\r\n.\r\n...\r\n",
        b"a\r\n.\r\nQUIT\r\n",
        b"\r\n" * 1000,
        b"." * 200_000 + b"\r\n",
        b"x" * 65_536,
        (b"." + b"y" * 76 + b"\r\n") * 20_000,
    ],
    ids=["a dot", "nothing", "no line end", "dots", "a dot and a command", "empty lines", "long", "chunk", "large"],
)
async def test_no_message_ends_early_or_loses_a_byte(server: SmtpServer, connect: Connect, message: bytes) -> None:
    conversation = await connect(server)
    await conversation.begin(ADA, message)
    await conversation.finish()
    sent = await conversation.send(BOB, message)
    assert isinstance(sent, Accepted)
    whole = message if message.endswith(b"\r\n") else message + b"\r\n"
    assert [mail.content for mail in server.accepted] == [whole, whole]


async def test_a_large_message_arrives_over_tls(any_server: SmtpServer, connect: Connect) -> None:
    message = (b"z" * 76 + b"\r\n") * 50_000
    conversation = await connect(any_server)
    assert isinstance(await conversation.send(ADA, message), Accepted)
    assert any_server.accepted[0].content == message


async def test_many_messages_go_over_one_connection(either_server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(either_server)
    for number in range(50):
        envelope = Envelope("news@example.org", (f"user{number}@example.net",))
        await conversation.begin(envelope, MESSAGE)
        assert isinstance(await conversation.finish(), Accepted)
    assert [mail.recipients[0] for mail in either_server.accepted] == [
        f"user{number}@example.net" for number in range(50)
    ]
    assert either_server.connection_count == 1


async def test_the_commands_of_the_next_message_may_follow_the_dot(either_server: SmtpServer, connect: Connect) -> None:
    envelopes = [Envelope("news@example.org", (f"user{number}@example.net",)) for number in range(20)]
    conversation = await connect(either_server)
    for envelope, following in zip(envelopes, [*envelopes[1:], None], strict=True):
        await conversation.begin(envelope, MESSAGE)
        assert isinstance(await conversation.finish(following), Accepted)
    assert [mail.recipients for mail in either_server.accepted] == [one.recipients for one in envelopes]


async def test_a_refused_message_does_not_disturb_the_one_that_was_written_behind_it(
    server: SmtpServer, connect: Connect
) -> None:
    server.on("DOT", "550 5.7.1 spam", times=1)
    conversation = await connect(server)
    await conversation.begin(ADA, MESSAGE)
    first = await conversation.finish(BOB)
    assert isinstance(first, NotAccepted)
    assert first.incident.reply is not None
    assert first.incident.reply.code == 550
    assert isinstance(await conversation.send(BOB, MESSAGE), Accepted)
    assert [mail.recipients for mail in server.accepted] == [BOB.recipients]


async def test_a_recipient_refused_behind_a_dot_is_refused_for_its_own_message(
    server: SmtpServer, connect: Connect
) -> None:
    server.on("RCPT", refuse("bob@example.net"))
    conversation = await connect(server)
    carol = Envelope("news@example.org", ("carol@example.net",))
    await conversation.begin(ADA, MESSAGE)
    assert isinstance(await conversation.finish(BOB), Accepted)
    refused = await conversation.begin(BOB, MESSAGE)
    assert isinstance(refused, NotAccepted)
    assert str(refused.incident) == "RCPT: 550 5.1.1 no such user"
    assert isinstance(await conversation.send(carol, MESSAGE), Accepted)
    assert [mail.recipients for mail in server.accepted] == [ADA.recipients, carol.recipients]


async def test_another_message_than_the_announced_one_is_refused_and_the_connection_closed(
    server: SmtpServer, connect: Connect
) -> None:
    conversation = await connect(server)
    await conversation.begin(ADA, MESSAGE)
    await conversation.finish(BOB)
    with pytest.raises(RuntimeError, match="another message"):
        await conversation.begin(ADA, MESSAGE)
    assert not conversation.is_usable


async def test_the_commands_may_be_written_before_the_message_is_wanted(
    either_server: SmtpServer, connect: Connect
) -> None:
    conversation = await connect(either_server)
    await conversation.open(ADA)
    await conversation.open(ADA)
    assert isinstance(await conversation.send(ADA, MESSAGE), Accepted)
    assert [line for line in either_server.commands if line.startswith("MAIL")] == ["MAIL FROM:<news@example.org>"]


async def test_a_dot_without_a_message_is_a_mistake(server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(server)
    with pytest.raises(RuntimeError, match="no message"):
        await conversation.finish()


async def test_two_messages_at_once_are_a_mistake(server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(server)
    await conversation.begin(ADA, MESSAGE)
    with pytest.raises(RuntimeError, match="at BODY"):
        await conversation.begin(BOB, MESSAGE)
    assert server.accepted == []


async def test_replies_may_come_byte_by_byte(server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(server)
    server.on("MAIL", Trickle("250-2.1.0 first\n250 2.1.0 second"))
    server.on("RCPT", Trickle("250 2.1.5 ok"))
    server.on("DATA", Trickle("354 go on"))
    server.on("DOT", Trickle("250 2.0.0 queued"))
    assert isinstance(await conversation.send(ADA, MESSAGE), Accepted)


@pytest.mark.parametrize("reply", ["250 ok", "251 will forward", "200 fine", "250-a\n250-b\n250 c", "299 odd"])
async def test_every_positive_reply_to_the_dot_is_an_acceptance(
    server: SmtpServer, connect: Connect, reply: str
) -> None:
    server.on("DOT", reply)
    conversation = await connect(server)
    assert isinstance(await conversation.send(ADA, MESSAGE), Accepted)
    assert conversation.is_usable


async def test_a_forwarding_server_s_251_is_a_recipient_taken(server: SmtpServer, connect: Connect) -> None:
    server.on("RCPT", "251 2.1.5 will forward")
    conversation = await connect(server)
    assert isinstance(await conversation.send(ADA, MESSAGE), Accepted)


async def test_a_refused_copy_is_reported_and_the_message_still_goes(
    either_server: SmtpServer, connect: Connect
) -> None:
    either_server.on("RCPT", refuse("cc@example.net", "bcc@example.net"))
    envelope = Envelope("news@example.org", ("to@example.net", "cc@example.net", "ok@example.net", "bcc@example.net"))
    conversation = await connect(either_server)
    ready = await conversation.begin(envelope, MESSAGE)
    assert isinstance(ready, ReadyForDot)
    assert [(one.index, one.address, one.reply.code) for one in ready.refused] == [
        (1, "cc@example.net", 550),
        (3, "bcc@example.net", 550),
    ]
    outcome = await conversation.finish()
    assert isinstance(outcome, Accepted)
    assert outcome.refused == ready.refused
    assert either_server.accepted[0].recipients == ("to@example.net", "ok@example.net")


async def test_without_its_first_recipient_a_message_goes_to_nobody(
    either_server: SmtpServer, connect: Connect
) -> None:
    either_server.on("RCPT", refuse("to@example.net"))
    envelope = Envelope("news@example.org", ("to@example.net", "cc@example.net"))
    conversation = await connect(either_server)
    outcome = await conversation.begin(envelope, MESSAGE)
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident.stage is Stage.RCPT
    assert judge(outcome.incident).suppress
    conversation.close()
    await either_server.until(lambda: either_server.open_count == 0)
    assert either_server.accepted == []


async def test_after_a_refusal_the_same_connection_takes_the_next_message(
    either_server: SmtpServer, connect: Connect
) -> None:
    either_server.on("RCPT", refuse("ada@example.net"))
    conversation = await connect(either_server)
    for _ in range(3):
        assert isinstance(await conversation.send(ADA, MESSAGE), NotAccepted)
        assert isinstance(await conversation.send(BOB, MESSAGE), Accepted)
    assert either_server.connection_count == 1
    assert either_server.commands.count("RSET") == 3


async def test_no_empty_message_is_sent_when_data_is_allowed_without_recipients(connect: Connect) -> None:
    async with SmtpServer(data_without_recipients=True) as lax:
        lax.on("RCPT", refuse("ada@example.net"))
        conversation = await connect(lax)
        outcome = await conversation.begin(ADA, MESSAGE)
        assert isinstance(outcome, NotAccepted)
        assert outcome.incident.stage is Stage.RCPT
        assert not conversation.is_usable
        await lax.until(lambda: lax.open_count == 0)
        assert lax.accepted == []


@pytest.mark.parametrize("reply", ["550 5.1.8 who are you", "451 4.3.0 later", "501 what"])
async def test_a_refused_sender_is_told_and_leaves_the_connection_usable(
    either_server: SmtpServer, connect: Connect, reply: str
) -> None:
    either_server.on("MAIL", reply, times=1)
    conversation = await connect(either_server)
    outcome = await conversation.begin(ADA, MESSAGE)
    assert isinstance(outcome, NotAccepted)
    assert str(outcome.incident) == f"MAIL: {reply}"
    assert isinstance(await conversation.send(BOB, MESSAGE), Accepted)


async def test_a_refused_data_leaves_the_connection_usable(either_server: SmtpServer, connect: Connect) -> None:
    either_server.on("DATA", "451 4.3.0 later", times=1)
    conversation = await connect(either_server)
    outcome = await conversation.begin(ADA, MESSAGE)
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident.stage is Stage.DATA
    assert isinstance(await conversation.send(BOB, MESSAGE), Accepted)


async def test_a_failing_reset_ends_the_connection_but_not_the_result(server: SmtpServer, connect: Connect) -> None:
    server.on("RCPT", refuse("ada@example.net"))
    server.on("RSET", "500 what", times=1)
    conversation = await connect(server)
    first = await conversation.begin(ADA, MESSAGE)
    assert isinstance(first, NotAccepted)
    assert first.incident.stage is Stage.RCPT
    second = await conversation.begin(BOB, MESSAGE)
    assert isinstance(second, NotAccepted)
    assert judge(second.incident).action is Action.NOTHING
    assert not conversation.is_usable


async def test_the_size_is_announced_where_the_server_asks_for_it(server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(server)
    sized = Envelope("news@example.org", ("ada@example.net",), size_bytes=len(MESSAGE))
    plain = Envelope("news@example.org", ("ada@example.net",), size_bytes=len(MESSAGE), is_plain=True)
    await conversation.send(sized, MESSAGE)
    await conversation.send(plain, MESSAGE)
    assert [line for line in server.commands if line.startswith("MAIL")] == [
        f"MAIL FROM:<news@example.org> SIZE={len(MESSAGE)}",
        "MAIL FROM:<news@example.org>",
    ]


async def test_a_message_larger_than_the_server_takes_is_not_even_begun(connect: Connect) -> None:
    async with SmtpServer(extensions=["PIPELINING", "SIZE 1000"]) as server:
        conversation = await connect(server)
        assert conversation.extensions.size_limit == 1000
        large = Envelope("news@example.org", ("ada@example.net",), size_bytes=1001)
        outcome = await conversation.begin(large, b"x" * 1001)
        assert isinstance(outcome, NotAccepted)
        assert outcome.incident.event is Event.TOO_LARGE
        assert judge(outcome.incident).tell_run
        assert isinstance(await conversation.send(ADA, MESSAGE), Accepted)
        assert sum(line.startswith("MAIL") for line in server.commands) == 1


async def test_a_non_ascii_address_needs_smtputf8(server: SmtpServer, connect: Connect) -> None:
    envelope = Envelope("news@example.org", ("jürgen@example.net",))
    conversation = await connect(server)
    assert isinstance(await conversation.send(envelope, MESSAGE), Accepted)
    assert "MAIL FROM:<news@example.org> SMTPUTF8" in server.commands
    assert server.accepted[0].recipients == ("jürgen@example.net",)
    async with SmtpServer(extensions=["PIPELINING"]) as old:
        conversation = await connect(old)
        outcome = await conversation.begin(envelope, MESSAGE)
        assert isinstance(outcome, NotAccepted)
        assert judge(outcome.incident).action is Action.OTHER_ACCOUNT
        assert isinstance(await conversation.send(ADA, MESSAGE), Accepted)


async def test_a_bare_line_feed_never_reaches_a_server(server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(server)
    with pytest.raises(ValueError, match="bare"):
        await conversation.begin(ADA, b"one\n.\r\ntwo\r\n")
    await conversation.quit()
    assert server.accepted == []


async def test_noop_says_what_the_server_says(any_server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(any_server)
    assert str(await conversation.noop()) == "NOOP: 250 2.0.0 ok"
    assert conversation.is_usable
    assert isinstance(await conversation.send(ADA, MESSAGE), Accepted)


async def test_quit_never_fails(server: SmtpServer, connect: Connect) -> None:
    replies: list[Script] = ["500 what", "garbage", Drop(), DEFAULT]
    for reply in replies:
        server.on("QUIT", reply)
        conversation = await connect(server)
        await conversation.quit()
        await conversation.quit()
        assert not conversation.is_usable
    await server.until(lambda: server.open_count == 0)
