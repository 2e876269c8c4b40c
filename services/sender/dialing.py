"""From an account to an open, authenticated connection: the way that deliveries and VerifyAccount share."""

from collections.abc import Awaitable, Callable

from services.sender.account import Account
from services.sender.credentials import Passwords
from services.sender.smtp import Connector, Conversation, Endpoint

Dial = Callable[[Account], Awaitable[Conversation]]


def dial_with(connector: Connector, passwords: Passwords) -> Dial:
    """Return what opens a connection to an account. It raises ConnectFailed or PasswordUnavailable."""

    async def dial(account: Account) -> Conversation:
        return await connector.connect(
            Endpoint(
                host=account.host,
                port=account.port,
                tls_mode=account.tls_mode,
                username=account.username,
                password=passwords.of(account),
                ca_certificates=account.ca_certificates,
                local_hostname=account.local_hostname,
            )
        )

    return dial
