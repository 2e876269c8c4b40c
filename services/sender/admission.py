"""Leave to send one message through an account, and what its outcome says about that account."""

from dataclasses import dataclass
from datetime import datetime

from services.sender.account import Account


@dataclass(slots=True, eq=False)
class Admission:
    """Leave to send one message through an account; every admission is settled once."""

    account: Account
    generation: int
    is_probe: bool
    admitted_at: datetime
    has_connection: bool = True  # False while it waits behind another message for the connection of that one


@dataclass(frozen=True, slots=True)
class Refusal:
    """A final no to one recipient that may be meant for the account: what the guard looks at."""

    delivery_key: str
    domain: str
