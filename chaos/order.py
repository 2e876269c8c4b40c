"""What the nursery is asked for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Order:
    """A service to start. With `window` it kills itself when that is reached for the `passing`th time.

    A `cold` one is imported anew, and has no window.
    """

    service: str
    log_file: str
    environment: Mapping[str, str] = field(default_factory=dict)
    window: str = ""
    passing: int = 1
    mutant: str = ""
    cold: bool = False

    def to_line(self) -> bytes:
        """Return it as it travels."""
        return json.dumps(asdict(self)).encode() + b"\n"
