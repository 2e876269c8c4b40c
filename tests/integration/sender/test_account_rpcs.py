"""Accounts over a real channel: what is stored, what is shown, and what is refused with its cure."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import insert, text

from mailer.client import ErrorDetails, details_of
from mailer.v1 import sender_pb2
from services.sender import account_store
from services.sender.replies import Breaker
from services.sender.tables import deliveries
from tests.fakes.account_service import AccountService, account_service
from tests.fakes.certificates import certificate_for

CANARY = "canary-pa55word"
NEVER_SET = "0" * 32


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[AccountService]:
    async with account_service(tmp_path) as running:
        yield running


def settings(**more: Any) -> sender_pb2.Account:
    return sender_pb2.Account(**({"name": "main", "host": "smtp.example.org"} | more))


async def create(service: AccountService, request_id: str = "r1", **more: Any) -> sender_pb2.Account:
    answer = await service.stub.CreateAccount(
        sender_pb2.CreateAccountRequest(request_id=request_id, account=settings(**more)), timeout=5
    )
    return answer.account


async def update(service: AccountService, account_id: str, *paths: str, **fields: Any) -> sender_pb2.Account:
    answer = await service.stub.UpdateAccount(
        sender_pb2.UpdateAccountRequest(
            account=sender_pb2.Account(account_id=account_id, **fields), update_mask=FieldMask(paths=paths)
        ),
        timeout=5,
    )
    return answer.account


async def get(service: AccountService, account_id: str) -> sender_pb2.Account:
    answer = await service.stub.GetAccount(sender_pb2.GetAccountRequest(account_id=account_id), timeout=5)
    return answer.account


async def refused(call: Any) -> ErrorDetails:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return details_of(caught.value)


async def fields_refused(call: Any) -> set[str]:
    details = await refused(call)
    assert details.code is grpc.StatusCode.INVALID_ARGUMENT
    assert all(len(violation.description) > 10 for violation in details.violations)
    return {violation.field for violation in details.violations}


async def test_a_new_account_is_shown_with_its_defaults(service: AccountService) -> None:
    account = await create(service, from_addresses=["News@Example.org", "@Example.COM"])
    assert len(account.account_id) == 32
    assert (account.port, account.tls_mode) == (465, sender_pb2.TLS_MODE_TLS)
    assert (account.max_connection_count, account.weight) == (5, 1)
    assert list(account.from_addresses) == ["news@example.org", "@example.com"]
    assert account.circuit.state == sender_pb2.Circuit.STATE_CLOSED
    assert account.create_time.seconds > 0
    assert not account.HasField("rest_until_time")
    assert await get(service, account.account_id) == account


@pytest.mark.parametrize(
    ("mode", "port"), [(sender_pb2.TLS_MODE_STARTTLS, 587), (sender_pb2.TLS_MODE_UNSPECIFIED, 465)]
)
async def test_the_port_follows_the_mode(service: AccountService, mode: Any, port: int) -> None:
    assert (await create(service, tls_mode=mode)).port == port


async def test_the_same_call_makes_one_account_and_another_body_is_refused(service: AccountService) -> None:
    credential = sender_pb2.Credential(username="u", password=CANARY)
    first = await create(service, credential=credential)
    assert await create(service, credential=credential) == first
    other = sender_pb2.Credential(username="u", password="another")
    details = await refused(create(service, credential=other))
    assert (details.code, details.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_name_is_taken_once(service: AccountService) -> None:
    first = await create(service)
    details = await refused(create(service, "r2"))
    assert (details.code, details.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ACCOUNT_NAME_TAKEN")
    second = await create(service, "r3", name="second")
    assert (await refused(update(service, second.account_id, "name", name="main"))).reason == "ACCOUNT_NAME_TAKEN"
    assert (await update(service, first.account_id, "name", name="main")).name == "main"


async def test_everything_wrong_is_named_at_once_and_nothing_is_stored(service: AccountService) -> None:
    wrong = sender_pb2.CreateAccountRequest(
        account=sender_pb2.Account(
            account_id="mine",
            host="smtp.example.org:465",
            port=70_000,
            weight=2000,
            max_connection_count=101,
            held=True,
            from_addresses=["ok@example.org", "not an address", "@"],
            caps=sender_pb2.AccountCaps(per_hour_count=4_000_000_000),
            ca_certificates="no certificate",
            local_hostname="a b",
            credential=sender_pb2.Credential(password="secret"),
            circuit_policy=sender_pb2.CircuitPolicy(failure_count=1000, rest=Duration(seconds=90_000)),
            retry_policy=sender_pb2.RetryPolicy(retry_on=["250"]),
        )
    )
    assert await fields_refused(service.stub.CreateAccount(wrong, timeout=5)) == {
        "request_id",
        "account.account_id",
        "account.held",
        "account.name",
        "account.host",
        "account.port",
        "account.weight",
        "account.max_connection_count",
        "account.from_addresses[1]",
        "account.from_addresses[2]",
        "account.caps.per_hour_count",
        "account.ca_certificates",
        "account.local_hostname",
        "account.credential.username",
        "account.circuit_policy.failure_count",
        "account.circuit_policy.rest",
        "account.retry_policy.retry_on[0]",
    }
    assert not (await service.stub.ListAccounts(sender_pb2.ListAccountsRequest(), timeout=5)).accounts


async def test_without_tls_only_this_machine_and_no_password(service: AccountService) -> None:
    none = sender_pb2.TLS_MODE_NONE
    assert await fields_refused(create(service, tls_mode=none)) == {"account.tls_mode", "account.host"}
    credential = sender_pb2.Credential(username="u", password="p")
    assert await fields_refused(create(service, tls_mode=none, host="127.0.0.1", credential=credential)) == {
        "account.tls_mode",
        "account.credential.password",
    }
    account = await create(service, tls_mode=none, host="127.0.0.1", port=2525)
    assert account.port == 2525
    assert await fields_refused(update(service, account.account_id, "host", host="example.org")) == {
        "account.tls_mode",
        "account.host",
    }


async def test_a_password_is_sealed_and_never_shown(service: AccountService, tmp_path: Path) -> None:
    account = await create(service, credential=sender_pb2.Credential(username="u", password=CANARY))
    assert account.has_password
    assert account.credential.username == "u"
    assert account.credential.WhichOneof("source") == "password"
    assert account.credential.password == ""
    stored = await service.database.read(account_store.get, account.account_id)
    password = service.passwords.of(stored)
    assert password is not None
    assert password.reveal() == CANARY
    assert CANARY not in repr(stored)
    await service.database.close()
    assert CANARY.encode() not in b"".join(_files_of_the_database(tmp_path))


def _files_of_the_database(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in folder.glob("mailer.db*")]


async def test_a_password_may_be_referenced(service: AccountService) -> None:
    service.variables["MAILER_SECRET_MAIN"] = "from the environment"
    (service.secrets_dir / "main").write_text("from the file\n")
    by_env = await create(service, credential={"username": "u", "password_env": "MAILER_SECRET_MAIN"})
    by_file = await create(service, "r2", name="2", credential={"username": "u", "password_file": "main"})
    found = []
    for account in (by_env, by_file):
        assert account.has_password
        assert not account.credential.password_env
        assert not account.credential.password_file
        stored = await service.database.read(account_store.get, account.account_id)
        password = service.passwords.of(stored)
        assert password is not None
        found.append(password.reveal())
    assert found == ["from the environment", "from the file"]


@pytest.mark.parametrize(
    "source",
    [
        {"password_env": "PATH"},
        {"password_env": "MAILER_SECRET_NOT_SET"},
        {"password_env": ""},
        {"password_file": "../mailer.db"},
        {"password_file": "/etc/passwd"},
        {"password_file": ".."},
        {"password_file": "missing"},
        {"password_file": "empty"},
        {"password": ""},
        {"password": "two\nlines"},
    ],
)
async def test_a_reference_that_leads_nowhere_is_refused(service: AccountService, source: dict[str, str]) -> None:
    (service.secrets_dir / "empty").touch()
    fields = await fields_refused(create(service, credential={"username": "u"} | source))
    assert fields == {f"account.credential.{next(iter(source))}"}


async def test_a_private_authority_is_kept(service: AccountService) -> None:
    pem = certificate_for("smtp.example.org").ca_pem
    assert (await create(service, ca_certificates=pem)).ca_certificates == pem


async def test_an_update_changes_what_the_mask_names_and_nothing_else(service: AccountService) -> None:
    account = await create(
        service,
        weight=3,
        caps=sender_pb2.AccountCaps(per_hour_count=500, per_day_count=9000),
        credential=sender_pb2.Credential(username="u", password=CANARY),
    )
    changed = await update(
        service,
        account.account_id,
        "caps.per_hour_count",
        "disabled",
        "circuit_policy.rest",
        "from_addresses",
        weight=99,
        disabled=True,
        caps=sender_pb2.AccountCaps(per_hour_count=100, per_day_count=1),
        circuit_policy=sender_pb2.CircuitPolicy(failure_count=9, rest=Duration(seconds=60)),
        from_addresses=["a@example.org"],
    )
    assert (changed.caps.per_hour_count, changed.caps.per_day_count) == (100, 9000)
    assert (changed.weight, changed.disabled) == (3, True)
    assert (changed.circuit_policy.failure_count, changed.circuit_policy.rest.seconds) == (0, 60)
    assert list(changed.from_addresses) == ["a@example.org"]
    stored = await service.database.read(account_store.get, account.account_id)
    password = service.passwords.of(stored)
    assert password is not None
    assert password.reveal() == CANARY


async def test_a_whole_message_is_replaced_by_its_name(service: AccountService) -> None:
    account = await create(service, caps=sender_pb2.AccountCaps(per_hour_count=500, per_day_count=9000))
    changed = await update(service, account.account_id, "caps", caps=sender_pb2.AccountCaps(per_second_count=2))
    assert changed.caps == sender_pb2.AccountCaps(per_second_count=2)


async def test_the_password_is_changed_added_and_removed(service: AccountService) -> None:
    account = await create(service, credential=sender_pb2.Credential(username="u", password=CANARY))
    account_id = account.account_id

    async def present() -> tuple[str, str | None]:
        stored = await service.database.read(account_store.get, account_id)
        password = service.passwords.of(stored)
        return stored.username, password.reveal() if password else None

    await update(service, account_id, "credential.username", credential={"username": "v"})
    assert await present() == ("v", CANARY)
    await update(service, account_id, "credential.password", credential={"password": "new"})
    assert await present() == ("v", "new")
    service.variables["MAILER_SECRET_X"] = "x"
    await update(service, account_id, "credential.password_env", credential={"password_env": "MAILER_SECRET_X"})
    assert await present() == ("v", "x")
    assert await fields_refused(update(service, account_id, "credential", credential={"username": "w"})) == {
        "account.credential"
    }
    assert not (await update(service, account_id, "credential")).has_password
    assert await present() == ("", None)


async def test_a_new_mode_brings_its_port_unless_one_was_chosen(service: AccountService) -> None:
    usual, own = await create(service), await create(service, "r2", name="own", port=2465)
    starttls = sender_pb2.TLS_MODE_STARTTLS
    assert (await update(service, usual.account_id, "tls_mode", tls_mode=starttls)).port == 587
    assert (await update(service, own.account_id, "tls_mode", tls_mode=starttls)).port == 2465


@pytest.mark.parametrize("paths", [(), ("nothing",), ("held",), ("circuit.state",), ("account_id",), ("caps.x",)])
async def test_masks_that_are_missing_unknown_or_output_only_are_refused(
    service: AccountService, paths: tuple[str, ...]
) -> None:
    account = await create(service)
    assert await fields_refused(update(service, account.account_id, *paths)) == {"update_mask"}


async def test_lists_go_by_name_in_pages(service: AccountService) -> None:
    for number, name in enumerate("dbeac"):
        await create(service, f"r{number}", name=name)
    names, token = [], ""
    while True:
        page = await service.stub.ListAccounts(sender_pb2.ListAccountsRequest(page_size=2, page_token=token), timeout=5)
        names.append("".join(account.name for account in page.accounts))
        token = page.next_page_token
        if not token:
            break
    assert names == ["ab", "cd", "e"]


async def test_hold_and_release(service: AccountService) -> None:
    account_id = (await create(service)).account_id
    hold, release = service.stub.HoldAccount, service.stub.ReleaseAccount
    for reason, shown in (("quota", "quota"), ("again", "again"), ("", "held by a person with HoldAccount")):
        request = sender_pb2.HoldAccountRequest(account_id=account_id, reason=reason)
        held = (await hold(request, timeout=5)).account
        assert (held.held, held.hold_reason) == (True, shown)
    assert service.roster.choose(from_address="a@example.org", allowed=frozenset()) is None
    for _ in range(2):
        released = (await release(sender_pb2.ReleaseAccountRequest(account_id=account_id), timeout=5)).account
        assert (released.held, released.hold_reason) == (False, "")
    assert service.roster.choose(from_address="a@example.org", allowed=frozenset()) is not None
    long = sender_pb2.HoldAccountRequest(account_id=account_id, reason="x" * 501)
    assert await fields_refused(hold(long, timeout=5)) == {"reason"}


async def test_a_circuit_is_shown_and_reset(service: AccountService) -> None:
    account_id = (await create(service)).account_id
    admission = service.roster.choose(from_address="a@example.org", allowed=frozenset())
    assert admission is not None
    service.roster.settle(admission, Breaker.TRIP, reason="certificate expired", counted=False)
    circuit = (await get(service, account_id)).circuit
    assert circuit.state == sender_pb2.Circuit.STATE_OPEN
    assert circuit.HasField("circuit_breaker_until")
    assert (circuit.last_failure, circuit.opened_count) == ("certificate expired", 1)
    reset = service.stub.ResetCircuit
    answer = await reset(sender_pb2.ResetCircuitRequest(account_id=account_id), timeout=5)
    circuit = answer.account.circuit
    assert circuit.state == sender_pb2.Circuit.STATE_CLOSED
    assert not circuit.HasField("circuit_breaker_until")
    assert (circuit.failure_count, circuit.opened_count, circuit.closed_count) == (0, 1, 1)
    assert service.roster.choose(from_address="a@example.org", allowed=frozenset()) is not None


async def test_an_account_is_not_deleted_under_a_message(service: AccountService) -> None:
    account_id = (await create(service)).account_id
    request = sender_pb2.DeleteAccountRequest(account_id=account_id)
    admission = service.roster.choose(from_address="a@example.org", allowed=frozenset())
    assert admission is not None
    details = await refused(service.stub.DeleteAccount(request, timeout=5))
    assert (details.code, details.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ACCOUNT_IN_USE")
    service.roster.settle(admission, Breaker.SUCCESS, reason="", counted=False)
    await service.database.write(
        lambda connection: connection.execute(insert(deliveries).values(_delivery(account_id, "dot_intent")))
    )
    assert (await refused(service.stub.DeleteAccount(request, timeout=5))).reason == "ACCOUNT_IN_USE"
    await service.database.write(lambda connection: connection.execute(text("UPDATE deliveries SET state = 'sent'")))
    await service.stub.DeleteAccount(request, timeout=5)
    assert (await refused(get(service, account_id))).reason == "ACCOUNT_NOT_FOUND"
    assert service.roster.choose(from_address="a@example.org", allowed=frozenset()) is None


def _delivery(account_id: str, state: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column in deliveries.c:
        if column.nullable or column.name == "id" or column.default is not None or column.server_default is not None:
            continue
        kind = column.type.python_type if column.name.rpartition("_")[2] != "time" else None
        values[column.name] = text("0") if kind is None else kind()
    return values | {"delivery_key": "k", "account_id": account_id, "state": state}


@pytest.mark.parametrize(
    "method", ["GetAccount", "DeleteAccount", "VerifyAccount", "HoldAccount", "ReleaseAccount", "ResetCircuit"]
)
async def test_an_account_that_does_not_exist_is_not_found(service: AccountService, method: str) -> None:
    call, request = getattr(service.stub, method), getattr(sender_pb2, f"{method}Request")
    assert (await refused(call(request(account_id=NEVER_SET), timeout=5))).code is grpc.StatusCode.NOT_FOUND
    assert await fields_refused(call(request(), timeout=5)) == {"account_id"}
    assert await fields_refused(call(request(account_id="../x y"), timeout=5)) == {"account_id"}


async def test_an_update_of_an_account_that_does_not_exist_is_not_found(service: AccountService) -> None:
    details = await refused(update(service, NEVER_SET, "weight", weight=2))
    assert details.code is grpc.StatusCode.NOT_FOUND
