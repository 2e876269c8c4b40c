"""The methods about accounts."""

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from uuid import uuid4

from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database
from mailer.errors import Aborted, FailedPrecondition, FieldViolation
from mailer.idempotency import RequestKey, request_key, run_once
from mailer.interceptor import Context
from mailer.pagination import read_page
from mailer.requests import check_id, check_new_request_id, check_reason
from mailer.v1 import sender_pb2
from mailer.validation import Violations, updated_paths
from services.sender import account_store, account_usage
from services.sender.account import Account, Credential, CredentialKind
from services.sender.account_fields import OUTPUT_ONLY, check_account, check_output_only, to_account
from services.sender.account_message import account_message
from services.sender.account_update import UPDATABLE, changes_password, merged
from services.sender.credentials import Passwords
from services.sender.roster import Roster
from services.sender.tables import requests
from services.sender.verification import Verifier

_KINDS = {
    "password": CredentialKind.SEALED,
    "password_env": CredentialKind.ENV,
    "password_file": CredentialKind.FILE,
}
_UPDATE_ATTEMPTS = 5
_READ_ATTEMPTS = 3


class AccountRpcs:
    """Accounts as people set them up, look at them, hold and release them."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        roster: Roster,
        passwords: Passwords,
        verifier: Verifier,
        *,
        idle_count: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """Take what it needs; `idle_count` tells how many connections of an account are open and unused."""
        self._database = database
        self._clock = clock
        self._roster = roster
        self._passwords = passwords
        self._verifier = verifier
        self._idle_count = idle_count

    async def CreateAccount(
        self, request: sender_pb2.CreateAccountRequest, context: Context
    ) -> sender_pb2.CreateAccountResponse:
        """Store a new account."""
        violations = Violations()
        check_new_request_id(request.request_id, violations)
        check_output_only(request.account, violations)
        check_account(request.account, violations)
        self._check_password(request.account.credential, violations)
        violations.raise_if_any()
        account_id = uuid4().hex
        credential = self._credential(request.account.credential, account_id)
        account = to_account(request.account, account_id=account_id, credential=credential)
        key = await asyncio.to_thread(_create_key, request)
        now = self._clock.now()

        def effect(connection: Connection) -> sender_pb2.CreateAccountResponse:
            stored = account_store.create(connection, account, now=now)
            return sender_pb2.CreateAccountResponse(
                account=account_message(stored, gate=None, last_day_count=0, now=now)
            )

        answer = await self._database.write(
            run_once, requests, key, effect, response_type=sender_pb2.CreateAccountResponse, now=now
        )
        await self._roster.refresh()
        return answer

    async def GetAccount(
        self, request: sender_pb2.GetAccountRequest, context: Context
    ) -> sender_pb2.GetAccountResponse:
        """Return an account. What it shows is on disk: it is true after a restart, too."""
        return sender_pb2.GetAccountResponse(account=await self._shown(_checked_id(request.account_id)))

    async def ListAccounts(
        self, request: sender_pb2.ListAccountsRequest, context: Context
    ) -> sender_pb2.ListAccountsResponse:
        """Return a page of accounts."""
        violations = Violations()
        page = read_page(request.page_size, request.page_token, violations, method="ListAccounts", key=(str, str))
        violations.raise_if_any()
        after = None if page.after is None else (page.after[0], page.after[1])
        found, counts = await self._read(partial(account_store.list_page, after=after, limit=page.limit))
        shown, token = page.fill(
            found,
            lambda account: (account.name, account.account_id),
            lambda account: self._message(account, counts.get(account.account_id, 0)),
        )
        return sender_pb2.ListAccountsResponse(accounts=shown, next_page_token=token)

    async def UpdateAccount(
        self, request: sender_pb2.UpdateAccountRequest, context: Context
    ) -> sender_pb2.UpdateAccountResponse:
        """Change the fields that the mask names."""
        violations = Violations()
        account_id = request.account.account_id
        check_id(account_id, violations, field="account.account_id")
        has_id = not violations
        paths = updated_paths(request.update_mask, violations, updatable=UPDATABLE, output_only=OUTPUT_ONLY)
        if not has_id:
            violations.raise_if_any()
        # A circuit that changes at this moment raises the version too; the change of a person just comes after it.
        for attempts_left in reversed(range(_UPDATE_ATTEMPTS)):
            try:
                await self._update_once(request.account, paths, tuple(violations))
                break
            except Aborted:
                if not attempts_left:
                    raise
        await self._roster.refresh()
        return sender_pb2.UpdateAccountResponse(account=await self._shown(account_id))

    async def DeleteAccount(
        self, request: sender_pb2.DeleteAccountRequest, context: Context
    ) -> sender_pb2.DeleteAccountResponse:
        """Remove an account that no message is on its way through."""
        account_id = _checked_id(request.account_id)
        gate = self._roster.gate(account_id)
        if gate is not None and gate.in_flight:
            raise FailedPrecondition(
                f"{gate.in_flight} message(s) are on their way through the account: hold it, wait until they have "
                "ended, then delete it.",
                reason="ACCOUNT_IN_USE",
                metadata={"account_id": account_id, "in_progress_count": str(gate.in_flight)},
            )
        await self._database.write(account_store.remove, account_id)
        await self._roster.refresh()
        return sender_pb2.DeleteAccountResponse()

    async def VerifyAccount(
        self, request: sender_pb2.VerifyAccountRequest, context: Context
    ) -> sender_pb2.VerifyAccountResponse:
        """Find out whether the account's server lets us in; sends nothing."""
        account = await self._database.read(account_store.get, _checked_id(request.account_id))
        return await self._verifier.verify(account)

    async def HoldAccount(
        self, request: sender_pb2.HoldAccountRequest, context: Context
    ) -> sender_pb2.HoldAccountResponse:
        """Take an account out of service."""
        violations = Violations()
        check_id(request.account_id, violations, field="account_id")
        check_reason(request.reason, violations)
        violations.raise_if_any()
        reason = request.reason or "held by a person with HoldAccount"
        await self._database.write(account_store.hold, request.account_id, reason=reason, now=self._clock.now())
        await self._roster.refresh()
        return sender_pb2.HoldAccountResponse(account=await self._shown(request.account_id))

    async def ReleaseAccount(
        self, request: sender_pb2.ReleaseAccountRequest, context: Context
    ) -> sender_pb2.ReleaseAccountResponse:
        """Put an account back into service."""
        account_id = _checked_id(request.account_id)
        # A hold that is still on its way to the database would come after the release.
        await self._roster.flush()
        await self._database.write(account_store.release, account_id, now=self._clock.now())
        await self._roster.refresh()
        return sender_pb2.ReleaseAccountResponse(account=await self._shown(account_id))

    async def ResetCircuit(
        self, request: sender_pb2.ResetCircuitRequest, context: Context
    ) -> sender_pb2.ResetCircuitResponse:
        """Close the circuit of an account at once."""
        account_id = _checked_id(request.account_id)
        await self._roster.flush()
        await self._database.write(account_store.reset_circuit, account_id, now=self._clock.now())
        await self._roster.refresh()
        self._roster.forget_failures(account_id)
        return sender_pb2.ResetCircuitResponse(account=await self._shown(account_id))

    async def _update_once(
        self, wanted: sender_pb2.Account, paths: frozenset[str], found: tuple[FieldViolation, ...]
    ) -> None:
        """Store what the paths name, unless something is wrong with it or was `found` to be wrong before."""
        account_id = wanted.account_id
        stored = await self._database.read(account_store.get, account_id)
        message = merged(stored, wanted, paths)
        violations = Violations(found)
        check_account(message, violations)
        credential = stored.credential
        if changes_password(paths):
            self._check_password(message.credential, violations)
            violations.raise_if_any()
            credential = self._credential(message.credential, account_id)
        else:
            violations.raise_if_any()
            credential = Credential(message.credential.username, credential.kind, credential.value)
        account = to_account(message, account_id=account_id, credential=credential)
        await self._database.write(
            account_store.update_settings, account, expected_version=stored.version, now=self._clock.now()
        )

    def _check_password(self, credential: sender_pb2.Credential, violations: Violations) -> None:
        """Note a password that is empty, and a reference that leads nowhere."""
        source = credential.WhichOneof("source")
        if source is None:
            return
        field, value = f"account.credential.{source}", getattr(credential, source)
        if source == "password":
            if not value:
                violations.add(field, "is empty: give the password, or leave the credential out for no AUTH")
            return
        problem = self._passwords.problem_with(_KINDS[source], value)
        if problem:
            violations.add(field, problem)

    def _credential(self, credential: sender_pb2.Credential, account_id: str) -> Credential:
        source = credential.WhichOneof("source")
        if source is None:
            return Credential()
        value = getattr(credential, source)
        if source == "password":
            value = self._passwords.seal(value, account_id=account_id)
        return Credential(credential.username, _KINDS[source], value)

    async def _shown(self, account_id: str) -> sender_pb2.Account:
        (account,), counts = await self._read(lambda connection: [account_store.get(connection, account_id)])
        return self._message(account, counts.get(account_id, 0))

    async def _read(self, choose: Callable[[Connection], list[Account]]) -> tuple[list[Account], dict[str, int]]:
        """Return accounts and how much they sent in the last day, once nothing about them waits to be stored.

        A circuit may open while they are read; then they are read again. A database that is away is not waited for.
        """
        now = self._clock.now()

        def read(connection: Connection) -> tuple[list[Account], dict[str, int]]:
            found = choose(connection)
            return found, account_usage.day_counts(connection, [one.account_id for one in found], now=now)

        for attempts_left in reversed(range(_READ_ATTEMPTS)):
            await self._roster.flush()
            found, counts = await self._database.read(read)
            gates = [self._roster.gate(account.account_id) for account in found]
            if not attempts_left or not any(gate is not None and gate.unsaved for gate in gates):
                return found, counts
        raise AssertionError("the last attempt returns")

    def _message(self, account: Account, last_day_count: int) -> sender_pb2.Account:
        gate = self._roster.gate(account.account_id)
        # What is on its way to the database is truer than what is there.
        if gate is not None and gate.unsaved:
            account = gate.account
        message = account_message(account, gate=gate, last_day_count=last_day_count, now=self._clock.now())
        message.open_connection_count += self._idle_count(account.account_id)
        return message


def _checked_id(account_id: str) -> str:
    violations = Violations()
    check_id(account_id, violations, field="account_id")
    violations.raise_if_any()
    return account_id


def _create_key(request: sender_pb2.CreateAccountRequest) -> RequestKey:
    """Return what makes two calls the same. Slow on purpose: it is stored, and must not give a password away."""
    masked = sender_pb2.CreateAccountRequest()
    masked.CopyFrom(request)
    password = masked.account.credential.password
    if password:
        masked.account.credential.password = hashlib.scrypt(
            password.encode(), salt=request.request_id.encode(), n=1 << 14, r=8, p=1
        ).hex()
    return request_key("CreateAccount", masked, request.request_id)
