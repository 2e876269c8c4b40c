"""Accounts, deliveries and their decisions by command line, over a real channel."""

import io
import sys
from datetime import UTC, datetime

import pytest

from mailer.v1 import sender_pb2
from mailer.wire import to_timestamp
from tests.fakes.scripted_sender import ScriptedSender
from tests.integration.cli.conftest import CommandLine

SERVER = ("--name", "main", "--host", "smtp.example.org")


async def test_a_password_is_read_from_stdin_and_never_shown(
    mailer: CommandLine, sender: ScriptedSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("s3cret with blanks \n"))
    outcome = await mailer("account", "add", *SERVER, "--user", "news", "--password-stdin")
    assert outcome.status == 0
    assert sender.passwords == ["s3cret with blanks "]
    assert "s3cret" not in outcome.out + outcome.err


async def test_a_password_is_never_an_argument(mailer: CommandLine, sender: ScriptedSender) -> None:
    outcome = await mailer("account", "add", *SERVER, "--user", "news", "--password", "s3cret")
    assert outcome.status == 2
    assert sender.accounts == {}


async def test_a_password_that_nobody_can_be_asked_for_names_the_other_ways(mailer: CommandLine) -> None:
    outcome = await mailer("account", "add", *SERVER, "--user", "news")
    assert outcome.status == 2
    assert "--password-stdin" in outcome.err


async def test_a_password_may_stay_where_the_sender_can_read_it(mailer: CommandLine, sender: ScriptedSender) -> None:
    await mailer("account", "add", *SERVER, "--user", "news", "--password-env", "MAILER_SECRET_MAIN")
    (account,) = sender.accounts.values()
    assert account.credential == sender_pb2.Credential(username="news", password_env="MAILER_SECRET_MAIN")


async def test_a_password_has_one_source(mailer: CommandLine) -> None:
    sources = ("--password-env", "MAILER_SECRET_MAIN", "--password-file", "main")
    assert (await mailer("account", "add", *SERVER, "--user", "news", *sources)).status == 2


async def test_an_update_names_what_was_named_and_nothing_else(mailer: CommandLine, sender: ScriptedSender) -> None:
    await mailer("account", "add", *SERVER)
    await mailer("account", "update", "main", "--per-hour", "0", "--circuit-rest", "90s", "--enabled")
    (request,) = sender.updated
    assert set(request.update_mask.paths) == {"caps.per_hour_count", "circuit_policy.rest", "disabled"}
    assert request.account.circuit_policy.rest.seconds == 90


async def test_an_update_of_nothing_is_refused(mailer: CommandLine, sender: ScriptedSender) -> None:
    await mailer("account", "add", *SERVER)
    assert (await mailer("account", "update", "main")).status == 2
    assert sender.updated == []


async def test_an_account_that_does_not_work_has_its_own_status(mailer: CommandLine, sender: ScriptedSender) -> None:
    await mailer("account", "add", *SERVER)
    sender.verification = sender_pb2.VerifyAccountResponse(failed_stage="AUTH", description="check the password")
    outcome = await mailer("account", "verify", "main")
    assert outcome.status == 6
    assert "why" in outcome.out
    assert "check the password" in outcome.out


async def test_an_account_that_nobody_has_verified_is_not_said_to_work(mailer: CommandLine) -> None:
    await mailer("account", "add", *SERVER)
    listed = (await mailer("account", "list")).out
    assert "in service" in listed
    assert "works" not in listed


async def test_a_verified_account_whose_circuit_is_open_says_how_to_close_it(
    mailer: CommandLine, sender: ScriptedSender
) -> None:
    await mailer("account", "add", *SERVER)
    (account,) = sender.accounts.values()
    assert "account reset" not in (await mailer("account", "verify", "main")).err
    account.circuit.state = sender_pb2.Circuit.STATE_HALF_OPEN
    assert 'mailer account reset "main"' in (await mailer("account", "verify", "main")).err


async def test_a_circuit_shows_why_it_is_open(mailer: CommandLine, sender: ScriptedSender) -> None:
    await mailer("account", "add", *SERVER)
    (account,) = sender.accounts.values()
    account.circuit.state = sender_pb2.Circuit.STATE_OPEN
    account.circuit.last_failure = "connection refused"
    outcome = await mailer("circuits")
    assert "circuit open" in outcome.out
    assert "connection refused; is it mended? mailer account reset" in outcome.out


async def test_deliveries_are_filtered_by_state(mailer: CommandLine, sender: ScriptedSender) -> None:
    sender.deliveries = [
        sender_pb2.Delivery(delivery_id="1", address="a@example.org", state=sender_pb2.DELIVERY_STATE_SENT),
        sender_pb2.Delivery(delivery_id="2", address="b@example.org", state=sender_pb2.DELIVERY_STATE_UNKNOWN),
    ]
    outcome = await mailer("deliveries", "--state", "unknown", "--json")
    assert [one["delivery_id"] for one in outcome.document["deliveries"]] == ["2"]
    none = await mailer("deliveries", "--state", "failed", "--state", "expired")
    assert none.out == "No message is failed or expired.\n"


async def test_a_list_says_when_old_deliveries_were_removed(mailer: CommandLine, sender: ScriptedSender) -> None:
    assert "removed" not in (await mailer("deliveries")).err
    sender.removal_time = to_timestamp(datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    outcome = await mailer("deliveries", "--run", "1")
    assert "Messages of runs that are over for long were removed, last on 2026-01-02" in outcome.err
    assert "their counts stay" in outcome.err


async def test_unknown_deliveries_are_decided_by_a_person(mailer: CommandLine, sender: ScriptedSender) -> None:
    assert (await mailer("resolve", "--retry", "1", "2", "--yes")).status == 0
    assert sender.resolved[0].resolution == sender_pb2.ResolveUnknownRequest.RESOLUTION_RETRY
    assert list(sender.resolved[0].delivery_ids) == ["1", "2"]


@pytest.mark.parametrize("decision", [(), ("--sent", "--retry", "1"), ("--sent",), ("--sent", "1", "--run", "r")])
async def test_half_a_decision_is_none(mailer: CommandLine, sender: ScriptedSender, decision: tuple[str, ...]) -> None:
    assert (await mailer("resolve", *decision, "--yes")).status == 2
    assert sender.resolved == []


async def test_a_service_that_is_not_there_is_named_with_its_address(mailer: CommandLine) -> None:
    mailer.sender = "127.0.0.1:9"
    outcome = await mailer("account", "list", "--json")
    assert outcome.status == 5
    assert "the sender at 127.0.0.1:9 cannot be reached" in outcome.err
    assert "`mailer up` starts the services" in outcome.err
    assert outcome.document["error"]["code"] == "UNAVAILABLE"


async def test_a_bug_of_a_service_is_said_without_its_details(mailer: CommandLine) -> None:
    outcome = await mailer("suppression", "list")
    assert outcome.status == 1
    assert "its log has the traceback" in outcome.err


async def test_health_names_the_one_that_is_away(mailer: CommandLine) -> None:
    assert (await mailer("health")).status == 0
    mailer.backup = "127.0.0.1:9"
    outcome = await mailer("health", "--json")
    assert outcome.status == 5
    assert [one["status"] == "SERVING" for one in outcome.document["services"]] == [True, True, False]
    assert "`mailer up` starts the services" in outcome.err


async def test_what_is_held_says_how_to_put_it_back(mailer: CommandLine) -> None:
    await mailer("account", "add", "--name", "the other", "--host", "smtp.example.org")
    assert 'mailer account release "the other"' in (await mailer("account", "hold", "the other")).out


async def test_addresses_that_cannot_be_suppressed_are_named_and_not_numbered(mailer: CommandLine) -> None:
    outcome = await mailer("suppression", "add", "ada@example.org", "bob", "eve")
    assert outcome.status == 2
    assert outcome.err == 'mailer: "bob": no @: write an address; "eve": no @: write an address.\n'


@pytest.mark.parametrize("address", ["", "localhost"])
async def test_an_address_without_a_port_is_none(mailer: CommandLine, address: str) -> None:
    mailer.sender = address
    outcome = await mailer("account", "list")
    assert outcome.status == 2
    assert f'--sender "{address}" is no address: write host:port' in outcome.err
