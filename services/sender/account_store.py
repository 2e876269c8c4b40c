"""Accounts in SQL. Every change raises `version`, which is how other processes notice.

What the delivery loop learns (circuit, hold, rest) and what a person sets are different columns, so neither
undoes the other; a change of the circuit names the circuit it leaves, so of two processes one wins and the
other learns.
"""

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, or_, select, tuple_, update

from mailer.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound
from services.sender.account import Account
from services.sender.account_rows import account_of, circuit_row, settings_row
from services.sender.circuit_record import CircuitRecord
from services.sender.tables import IS_IN_PROGRESS, account_usage, accounts, deliveries

_NONE_BARRED = "{}"


def create(connection: Connection, account: Account, *, now: datetime) -> Account:
    """Store a new account; raises AlreadyExists when its name is taken."""
    _refuse_taken_name(connection, account)
    values = settings_row(account) | circuit_row(account.circuit)
    connection.execute(
        insert(accounts).values(
            account_id=account.account_id,
            held=False,
            hold_reason="",
            barred_addresses=_NONE_BARRED,
            rest_until=None,
            rest_reason="",
            version=1,
            create_time=now,
            update_time=now,
            **values,
        )
    )
    return get(connection, account.account_id)


def find(connection: Connection, account_id: str) -> Account | None:
    """Return the account, or None."""
    row = connection.execute(select(accounts).where(accounts.c.account_id == account_id)).one_or_none()
    return None if row is None else account_of(row._mapping)


def get(connection: Connection, account_id: str) -> Account:
    """Return the account; raises NotFound."""
    account = find(connection, account_id)
    if account is None:
        raise no_account(account_id)
    return account


def no_account(account_id: str) -> NotFound:
    """Return the error for an account that does not exist."""
    return NotFound(
        f"There is no account {account_id}: ListAccounts shows them all.",
        reason="ACCOUNT_NOT_FOUND",
        metadata={"account_id": account_id},
    )


def list_page(connection: Connection, *, after: tuple[str, str] | None, limit: int) -> list[Account]:
    """Return accounts by name, then id, behind (name, id) `after`."""
    query = select(accounts).order_by(accounts.c.name, accounts.c.account_id).limit(limit)
    if after is not None:
        query = query.where(tuple_(accounts.c.name, accounts.c.account_id) > tuple_(*after))
    return [account_of(row._mapping) for row in connection.execute(query)]


def read_all(connection: Connection) -> list[Account]:
    """Return every account, by name."""
    rows = connection.execute(select(accounts).order_by(accounts.c.name, accounts.c.account_id))
    return [account_of(row._mapping) for row in rows]


def read_versions(connection: Connection) -> dict[str, int]:
    """Return the version of every account: what the others may have changed."""
    rows = connection.execute(select(accounts.c.account_id, accounts.c.version))
    return {row.account_id: row.version for row in rows}


def update_settings(connection: Connection, account: Account, *, expected_version: int, now: datetime) -> Account:
    """Store what a person set; raises Aborted when the account changed since it was read."""
    _refuse_taken_name(connection, account)
    changed = connection.execute(
        update(accounts)
        .where(accounts.c.account_id == account.account_id, accounts.c.version == expected_version)
        .values(version=accounts.c.version + 1, update_time=now, **settings_row(account))
    ).rowcount
    if not changed:
        get(connection, account.account_id)
        raise Aborted("The account was changed meanwhile: read it and try again.", reason="ACCOUNT_CHANGED")
    return get(connection, account.account_id)


def remove(connection: Connection, account_id: str) -> None:
    """Delete an account; raises FailedPrecondition while a message is on its way through it."""
    get(connection, account_id)
    busy = connection.execute(
        select(func.count()).select_from(deliveries).where(IS_IN_PROGRESS, deliveries.c.account_id == account_id)
    ).scalar_one()
    if busy:
        raise FailedPrecondition(
            f"{busy} message(s) are on their way through the account: hold it, wait until they have ended, "
            "then delete it.",
            reason="ACCOUNT_IN_USE",
            metadata={"account_id": account_id, "in_progress_count": str(busy)},
        )
    connection.execute(delete(account_usage).where(account_usage.c.account_id == account_id))
    connection.execute(delete(accounts).where(accounts.c.account_id == account_id))


def hold(connection: Connection, account_id: str, *, reason: str, now: datetime) -> Account:
    """Take the account out of service until it is released; a held one gets the new reason."""
    return _change(connection, account_id, now, held=True, hold_reason=reason)


def release(connection: Connection, account_id: str, *, now: datetime) -> Account:
    """Put the account back into service and end its rest; changes nothing when it neither holds nor rests."""
    account = get(connection, account_id)
    if not account.held and not account.barred and account.rest_until is None:
        return account
    return _change(
        connection,
        account_id,
        now,
        held=False,
        hold_reason="",
        barred_addresses=_NONE_BARRED,
        rest_until=None,
        rest_reason="",
    )


def bar(connection: Connection, account_id: str, *, from_key: str, reason: str, now: datetime) -> Account:
    """Use the account no more for a From address (mailbox key), until it is released."""
    barred = {**get(connection, account_id).barred, from_key: reason}
    return _change(connection, account_id, now, barred_addresses=json.dumps(barred))


def rest(connection: Connection, account_id: str, *, until: datetime, reason: str, now: datetime) -> Account:
    """Let the account rest until then; a longer rest that was asked for before stays."""
    account = get(connection, account_id)
    present = account.rests_until(now)
    if present is not None and present >= until:
        return account
    return _change(connection, account_id, now, rest_until=until, rest_reason=reason)


def reset_circuit(connection: Connection, account_id: str, *, now: datetime) -> Account:
    """Close the circuit, because a person says so, and forget its failures."""
    before = get(connection, account_id).circuit
    closed = CircuitRecord(
        opened_count=before.opened_count,
        closed_count=before.closed_count + (before.open_until is not None),
    )
    return _change(connection, account_id, now, **circuit_row(closed))


def store_opened(connection: Connection, account_id: str, record: CircuitRecord, *, now: datetime) -> Account:
    """Store that the circuit opened, unless it is open already. Returns the account as it is then."""
    is_closed = accounts.c.circuit_breaker_until.is_(None)
    return _change(connection, account_id, now, is_closed, **circuit_row(record))


def store_probed(
    connection: Connection, account_id: str, record: CircuitRecord, *, worker: str, now: datetime
) -> Account:
    """Store what the probe of this worker came to, unless the probe was lost to another."""
    is_ours = accounts.c.probe_worker == worker
    return _change(connection, account_id, now, is_ours, **circuit_row(record))


def claim_probe(
    connection: Connection,
    account_id: str,
    *,
    worker: str,
    until: datetime,
    longest_rest: timedelta,
    now: datetime,
) -> tuple[bool, Account]:
    """Claim the one probe of an open circuit whose rest is over, by compare-and-set.

    Returns whether this worker has it now, and the account. A claim whose deadline passed is free again; so
    is an `open until` further away than the longest rest, which only a clock that was set back can make.
    """
    changed = connection.execute(
        update(accounts)
        .where(
            accounts.c.account_id == account_id,
            or_(
                accounts.c.circuit_breaker_until <= now,
                accounts.c.circuit_breaker_until > now + longest_rest,
            ),
            or_(
                accounts.c.probe_until.is_(None),
                accounts.c.probe_until <= now,
                accounts.c.probe_until > until,
            ),
        )
        .values(probe_worker=worker, probe_until=until, version=accounts.c.version + 1)
    ).rowcount
    return changed == 1, get(connection, account_id)


def free_probes(connection: Connection, workers: Collection[str]) -> None:
    """Give up the probes of workers that are dead: their accounts may be probed at once."""
    connection.execute(
        update(accounts)
        .where(accounts.c.probe_worker.in_(list(workers)))
        .values(probe_worker=None, probe_until=None, version=accounts.c.version + 1)
    )


def _change(connection: Connection, account_id: str, now: datetime, *conditions: Any, **values: Any) -> Account:
    connection.execute(
        update(accounts)
        .where(accounts.c.account_id == account_id, *conditions)
        .values(version=accounts.c.version + 1, update_time=now, **values)
    )
    return get(connection, account_id)


def _refuse_taken_name(connection: Connection, account: Account) -> None:
    taken = connection.execute(
        select(exists().where(accounts.c.name == account.name, accounts.c.account_id != account.account_id))
    ).scalar_one()
    if taken:
        raise AlreadyExists(
            f'There is an account named "{account.name}" already: choose another name.',
            reason="ACCOUNT_NAME_TAKEN",
            metadata={"name": account.name},
        )
