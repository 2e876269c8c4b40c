"""What a server said in its answer to EHLO."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from services.sender.replies import Event
from services.sender.smtp.envelope import Envelope

_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 3


@dataclass(frozen=True, slots=True)
class Extensions:
    """The extensions we use, and all keywords (upper case) with their parameters."""

    keywords: Mapping[str, str] = field(default_factory=dict)
    has_pipelining: bool = False
    has_smtputf8: bool = False
    has_size: bool = False
    size_limit: int | None = None
    """Largest message in bytes; None when the server names none."""

    def obstacle_to(self, envelope: Envelope) -> Event | None:
        """Return why this server cannot take the envelope at all, so that nobody asks it; None when it may."""
        if envelope.needs_smtputf8 and not self.has_smtputf8:
            return Event.SMTPUTF8_MISSING
        is_too_large = self.size_limit is not None and envelope.size_bytes > self.size_limit
        return Event.TOO_LARGE if is_too_large else None

    @classmethod
    def parse(cls, keywords: Mapping[str, str]) -> Self:
        """Return the extensions from keywords and their parameters, in any case."""
        upper = {keyword.upper(): parameters.strip() for keyword, parameters in keywords.items()}
        size = upper.get("SIZE", "")
        return cls(
            keywords=upper,
            has_pipelining="PIPELINING" in upper,
            has_smtputf8="SMTPUTF8" in upper,
            has_size="SIZE" in upper,
            # RFC 1870 4: no number, or 0, means no fixed limit.
            size_limit=int(size) or None if _SIZE.fullmatch(size) else None,
        )
