"""Everything that can go wrong on an open connection, and what is known afterwards."""

import asyncio
from dataclasses import replace

import pytest

from services.sender.replies import Action, Event, Incident, Reply, Stage, judge
from services.sender.smtp import Accepted, Conversation, Envelope, NotAccepted, ReadyForDot, Timeouts, Uncertain
from tests.fakes.smtp_server import (
    DEFAULT,
    Accept,
    Drop,
    Early,
    Hang,
    Raw,
    Reset,
    Script,
    SmtpServer,
    Until,
    greylist,
)
from tests.integration.sender.smtp.conftest import Connect

ADA = Envelope("news@example.org", ("ada@example.net",))
BOB = Envelope("news@example.org", ("bob@example.net",))
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
LARGE = (b"z" * 76 + b"\r\n") * 30_000
"""More than is written in one piece."""
HUGE = LARGE * 10
"""More than the buffers of the system take."""
BEFORE_DOT = ["MAIL", "RCPT", "DATA"]
SHORT = 0.05


async def attempt(conversation: Conversation, message: bytes = MESSAGE) -> Accepted | NotAccepted | Uncertain:
    begun = await conversation.begin(ADA, message)
    return await conversation.finish() if isinstance(begun, ReadyForDot) else begun


@pytest.mark.parametrize("stage", [*BEFORE_DOT, "BODY"])
@pytest.mark.parametrize("fault", [Drop(), Reset(), Raw(b"what is this\r\n"), Raw(b"\x00\xff\r\n"), Raw(b"25\r\n")])
async def test_what_breaks_before_the_dot_is_certainly_not_accepted(
    any_server: SmtpServer, connect: Connect, stage: str, fault: Script
) -> None:
    any_server.on(stage, fault)
    conversation = await connect(any_server)
    outcome = await attempt(conversation, LARGE if stage == "BODY" else MESSAGE)
    assert isinstance(outcome, NotAccepted)
    assert judge(outcome.incident).action is Action.DEFER
    assert not conversation.is_usable
    assert any_server.accepted == []


@pytest.mark.parametrize(
    "fault",
    [
        [Accept(), Drop()],
        [Accept(), Reset()],
        [Accept(), Raw(b"ok, got it\r\n")],
        [Accept(), Raw(b"\r\n")],
        [Accept(), Raw(b"250-unfinished\r\n"), Drop()],
        [Accept(), Raw(b"250 no line end"), Drop()],
        [Accept(), Raw(b"250-one\r\n550 two\r\n")],
        [Accept(), Raw(b"354 go on\r\n")],
        [Drop()],
        [Reset()],
    ],
    ids=str,
)
async def test_without_a_clear_answer_to_the_dot_nobody_knows(
    any_server: SmtpServer, connect: Connect, fault: Script
) -> None:
    any_server.on("DOT", fault)
    conversation = await connect(any_server)
    outcome = await attempt(conversation)
    assert isinstance(outcome, Uncertain)
    assert outcome.incident.stage is Stage.DOT
    assert judge(outcome.incident).action is Action.UNKNOWN
    assert not conversation.is_usable


async def test_an_acceptance_followed_by_the_end_of_the_connection_is_one(
    any_server: SmtpServer, connect: Connect
) -> None:
    any_server.on("DOT", [DEFAULT, Drop()])
    conversation = await connect(any_server)
    assert isinstance(await attempt(conversation), Accepted)
    await any_server.until(lambda: any_server.open_count == 0)
    again = await conversation.begin(BOB, MESSAGE)
    assert isinstance(again, NotAccepted)
    assert judge(again.incident).action is Action.NOTHING


async def test_a_server_that_delivers_and_says_no_is_believed(server: SmtpServer, connect: Connect) -> None:
    server.on("DOT", [Accept(), "451 4.3.0 not now"])
    outcome = await attempt(await connect(server))
    assert isinstance(outcome, NotAccepted)
    assert judge(outcome.incident).action is Action.DEFER
    assert len(server.accepted) == 1


@pytest.mark.parametrize(("stage", "timeout"), [("MAIL", "mail"), ("RCPT", "rcpt"), ("DATA", "data")])
async def test_a_silent_server_is_left_after_its_time(
    server: SmtpServer, connect: Connect, stage: str, timeout: str
) -> None:
    server.on(stage, Hang())
    conversation = await connect(server, timeouts=replace(Timeouts(), **{timeout: SHORT}))
    outcome = await attempt(conversation)
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident == Incident(Stage(stage), event=Event.TIMEOUT)
    assert not conversation.is_usable


async def test_a_server_silent_after_the_dot_leaves_the_message_unknown(server: SmtpServer, connect: Connect) -> None:
    server.on("DOT", [Accept(), Hang()])
    outcome = await attempt(await connect(server, timeouts=Timeouts(dot=SHORT)))
    assert isinstance(outcome, Uncertain)
    assert outcome.incident == Incident(Stage.DOT, event=Event.TIMEOUT)


async def test_a_reply_that_drips_is_no_reply_in_time(server: SmtpServer, connect: Connect) -> None:
    server.on("MAIL", [Raw(b"2"), Raw(b"5"), Hang()])
    outcome = await attempt(await connect(server, timeouts=Timeouts(mail=SHORT)))
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident.event is Event.TIMEOUT


async def test_a_server_that_reads_nothing_is_left_after_the_time_for_a_write(
    any_server: SmtpServer, connect: Connect
) -> None:
    any_server.on("BODY", Hang())
    conversation = await connect(any_server, timeouts=Timeouts(write=SHORT))
    outcome = await conversation.begin(ADA, HUGE)
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident == Incident(Stage.BODY, event=Event.TIMEOUT)


async def test_a_slow_reader_gets_the_whole_message(any_server: SmtpServer, connect: Connect) -> None:
    wanted = asyncio.Event()
    any_server.on("BODY", Until(wanted))
    conversation = await connect(any_server)
    sending = asyncio.create_task(conversation.send(ADA, LARGE))
    await any_server.until(lambda: any_server.commands[-1:] == ["DATA"])
    assert not sending.done()
    wanted.set()
    assert isinstance(await sending, Accepted)
    assert any_server.accepted[0].content == LARGE


@pytest.mark.parametrize(
    ("stage", "action"),
    [("MAIL", Action.REQUEUE), ("RCPT", Action.REQUEUE), ("DATA", Action.REQUEUE), ("DOT", Action.DEFER)],
)
async def test_421_closes_the_connection_wherever_it_comes(
    server: SmtpServer, connect: Connect, stage: str, action: Action
) -> None:
    server.on(stage, "421 4.3.2 shutting down")
    conversation = await connect(server)
    outcome = await attempt(conversation)
    assert isinstance(outcome, NotAccepted)
    assert judge(outcome.incident).action is action
    assert outcome.incident.stage == stage
    assert not conversation.is_usable


async def test_421_for_a_copy_closes_too(server: SmtpServer, connect: Connect) -> None:
    server.on("RCPT", "250 2.1.5 ok", times=1)
    server.on("RCPT", "421 4.3.2 shutting down")
    conversation = await connect(server)
    outcome = await conversation.begin(Envelope("news@example.org", ("to@example.net", "cc@example.net")), MESSAGE)
    assert isinstance(outcome, NotAccepted)
    assert str(outcome.incident) == "RCPT: 421 4.3.2 shutting down"
    assert not conversation.is_usable


@pytest.mark.parametrize("reply", ["250 fine", "200 fine", "334 go on", "503 5.5.1 what"])
async def test_data_wants_354_and_nothing_else(server: SmtpServer, connect: Connect, reply: str) -> None:
    server.on("DATA", reply)
    conversation = await connect(server)
    outcome = await attempt(conversation)
    assert isinstance(outcome, NotAccepted)
    assert judge(outcome.incident).action is Action.DEFER
    assert not conversation.is_usable


async def test_an_early_no_stops_a_large_message(any_server: SmtpServer, connect: Connect) -> None:
    any_server.on("BODY", Early("552 5.3.4 too big for us", after_bytes=1000))
    conversation = await connect(any_server)
    outcome = await conversation.begin(ADA, HUGE)
    assert isinstance(outcome, NotAccepted)
    assert str(outcome.incident) == "BODY: 552 5.3.4 too big for us"
    assert judge(outcome.incident).action is Action.FAIL
    assert not conversation.is_usable
    assert any_server.accepted == []


async def test_an_early_no_of_a_server_that_reads_no_further_is_heard(any_server: SmtpServer, connect: Connect) -> None:
    any_server.on("BODY", ["554 5.7.1 enough", Hang()])
    outcome = await (await connect(any_server)).begin(ADA, LARGE)
    assert isinstance(outcome, NotAccepted)
    assert str(outcome.incident) == "BODY: 554 5.7.1 enough"


async def test_an_early_no_while_the_intent_is_stored_keeps_the_dot_back(server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(server)
    assert isinstance(await conversation.begin(ADA, MESSAGE), ReadyForDot)
    await server.say("451 4.3.1 disk full")
    outcome = await conversation.finish()
    assert isinstance(outcome, NotAccepted)
    assert str(outcome.incident) == "BODY: 451 4.3.1 disk full"
    await server.until(lambda: server.open_count == 0)
    assert server.accepted == []


async def test_an_early_yes_is_believed_by_nobody(server: SmtpServer, connect: Connect) -> None:
    server.on("BODY", Early("250 2.0.0 taken"))
    conversation = await connect(server)
    outcome = await conversation.begin(ADA, HUGE)
    assert isinstance(outcome, Uncertain)
    assert judge(outcome.incident).action is Action.UNKNOWN
    assert not conversation.is_usable


async def test_a_connection_lost_while_the_intent_is_stored_keeps_the_dot_back(
    any_server: SmtpServer, connect: Connect
) -> None:
    conversation = await connect(any_server)
    await conversation.begin(ADA, MESSAGE)
    any_server.drop_connections()
    await any_server.until(lambda: any_server.open_count == 0)
    outcome = await conversation.finish()
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident == Incident(Stage.BODY, event=Event.CONNECTION_LOST)


async def test_a_connection_that_is_being_closed_takes_no_dot(any_server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(any_server)
    await conversation.begin(ADA, MESSAGE)
    transport = conversation._wire._transport
    assert transport is not None
    transport.close()
    outcome = await conversation.finish()
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident == Incident(Stage.BODY, event=Event.CONNECTION_LOST)


async def test_421_in_idle_makes_the_connection_unusable(any_server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(any_server)
    assert isinstance(await attempt(conversation), Accepted)
    await any_server.say("421 4.4.2 idle for too long")
    outcome = await conversation.begin(BOB, MESSAGE)
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident.event is Event.UNSOLICITED
    assert "idle for too long" in outcome.incident.detail
    assert judge(outcome.incident).action is Action.NOTHING
    assert len([line for line in any_server.commands if line.startswith("MAIL")]) == 1


async def test_the_beginning_of_a_line_in_idle_is_enough(any_server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(any_server)
    await any_server.write(b"25")
    outcome = await conversation.begin(BOB, MESSAGE)
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident == Incident(Stage.IDLE, event=Event.UNSOLICITED, detail="25")


async def test_a_late_line_is_never_the_answer_to_the_next_command(any_server: SmtpServer, connect: Connect) -> None:
    """The line is in the socket when the next message begins, but nobody has read it yet."""
    conversation = await connect(any_server)
    await attempt(conversation)
    await any_server.say("550 5.1.1 no such user")
    outcome = await conversation.send(BOB, MESSAGE)
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident.stage is Stage.IDLE
    assert not judge(outcome.incident).suppress


async def test_two_answers_to_one_dot_accept_one_message_and_end_the_connection(
    server: SmtpServer, connect: Connect
) -> None:
    server.on("DOT", [DEFAULT, Raw(b"250 2.0.0 and again\r\n")])
    conversation = await connect(server)
    assert isinstance(await attempt(conversation), Accepted)
    assert not conversation.is_usable


async def test_a_stray_reply_never_makes_another_message_sent(server: SmtpServer, connect: Connect) -> None:
    """The next message's commands are behind the dot, so the stray line is taken for one of its answers."""
    server.on("DOT", [DEFAULT, Raw(b"250 2.0.0 and again\r\n")], times=1)
    conversation = await connect(server)
    await conversation.begin(ADA, MESSAGE)
    assert isinstance(await conversation.finish(BOB), Accepted)
    outcome = await conversation.begin(BOB, MESSAGE)
    assert isinstance(outcome, NotAccepted)
    assert judge(outcome.incident).action in {Action.DEFER, Action.NOTHING}
    assert [mail.recipients for mail in server.accepted] == [ADA.recipients]


@pytest.mark.parametrize(("size", "accepted"), [(60_000, True), (65_000, True), (66_000, False), (1_000_000, False)])
async def test_a_reply_of_64_kb_is_read_and_a_longer_one_is_garbage(
    server: SmtpServer, connect: Connect, size: int, accepted: bool
) -> None:
    lines = ["250-" + "x" * 71] * (size // 77)
    server.on("DOT", "\n".join([*lines, "250 done"]))
    outcome = await attempt(await connect(server))
    assert isinstance(outcome, Accepted if accepted else Uncertain)


async def test_a_line_without_an_end_is_garbage(server: SmtpServer, connect: Connect) -> None:
    server.on("MAIL", [Raw(b"250 " + b"x" * 70_000), Hang()])
    outcome = await attempt(await connect(server))
    assert isinstance(outcome, NotAccepted)
    assert outcome.incident.event is Event.GARBAGE


async def test_greylisting_lets_the_second_attempt_through(server: SmtpServer, connect: Connect) -> None:
    server.on("RCPT", greylist())
    conversation = await connect(server)
    first = await attempt(conversation)
    assert isinstance(first, NotAccepted)
    assert str(judge(first.incident).retry_after) == "0:05:00"
    assert isinstance(await attempt(conversation), Accepted)


@pytest.mark.parametrize("stage", [*BEFORE_DOT, "BODY"])
async def test_a_cancel_before_the_dot_leaves_nothing_behind(server: SmtpServer, connect: Connect, stage: str) -> None:
    server.on(stage, Hang())
    conversation = await connect(server)
    message = HUGE if stage == "BODY" else MESSAGE
    attempting = asyncio.create_task(conversation.begin(ADA, message))
    await server.until(lambda: any(line.startswith("DATA" if stage == "BODY" else stage) for line in server.commands))
    attempting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempting
    assert not conversation.is_usable
    assert judge(conversation.interruption()).action is Action.REQUEUE
    assert server.accepted == []


async def test_a_cancel_after_the_dot_leaves_the_message_unknown(any_server: SmtpServer, connect: Connect) -> None:
    any_server.on("DOT", [Accept(), Hang()])
    conversation = await connect(any_server)
    attempting = asyncio.create_task(attempt(conversation))
    await any_server.received()
    attempting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempting
    assert conversation.stage is Stage.DOT
    assert judge(conversation.interruption()).action is Action.UNKNOWN
    assert not conversation.is_usable


async def test_a_cancel_in_the_moment_of_the_answer_does_not_hide_it(server: SmtpServer, connect: Connect) -> None:
    server.on("DOT", [Accept(), Hang()])
    conversation = await connect(server)
    finishing = asyncio.create_task(attempt(conversation))
    await server.received()
    conversation._wire.data_received(b"250 2.0.0 queued\r\n")
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    assert conversation.interruption() == Incident(Stage.DOT, Reply(250, ("2.0.0 queued",)))


@pytest.mark.parametrize("reply", ["550 5.7.1 no", "451 4.3.0 later"])
async def test_a_server_that_refuses_the_sender_and_takes_the_recipients_is_not_believed(
    server: SmtpServer, connect: Connect, reply: str
) -> None:
    server.on("MAIL", reply)
    server.on("RCPT", "250 2.1.5 ok")
    server.on("DATA", "354 go on")
    conversation = await connect(server)
    outcome = await conversation.begin(ADA, MESSAGE)
    assert isinstance(outcome, NotAccepted)
    verdict = judge(outcome.incident)
    assert (verdict.action, verdict.hold) == (Action.DEFER, "none")
    assert not conversation.is_usable


async def test_a_closed_conversation_accepts_nothing(server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(server)
    await conversation.begin(ADA, MESSAGE)
    conversation.close()
    outcome = await conversation.finish()
    assert isinstance(outcome, NotAccepted)
    await server.until(lambda: server.open_count == 0)
    assert server.accepted == []


async def test_noop_notices_a_dead_connection(server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(server)
    server.drop_connections()
    await server.until(lambda: server.open_count == 0)
    incident = await conversation.noop()
    assert incident.event in {Event.CONNECTION_LOST, Event.UNSOLICITED}
    assert not conversation.is_usable
