"""The Message-ID of a delivery: the same for every attempt, so that a second copy can be recognised."""

import re

from mailer.message.address import Address

_KEY = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_MAX_KEY = 64


def message_id(delivery_key: str, from_address: Address) -> str:
    """Return `<key@domain of From>`. The key is a digest or id in letters and digits; both are canonical."""
    is_digest = delivery_key.isascii() and delivery_key.isalnum()
    if len(delivery_key) > _MAX_KEY or not (is_digest or _KEY.fullmatch(delivery_key)):
        raise ValueError(f"a delivery key is 1 to {_MAX_KEY} letters, digits, - and _, not {delivery_key!r}")
    return f"<{delivery_key}@{from_address.domain}>"
