"""Accounts for tests."""

from typing import Any

from services.sender.account import Account, TlsMode


def new_account(account_id: str = "a", **more: Any) -> Account:
    """Return an account that nothing is wrong with; its name is its id."""
    settings: dict[str, Any] = {"name": account_id, "host": "127.0.0.1", "port": 2525, "tls_mode": TlsMode.NONE}
    return Account(account_id=account_id, **(settings | more))
