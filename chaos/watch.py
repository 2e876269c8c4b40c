"""What the SMTP server has seen so far."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from chaos.record import Event, Kind, Reader

LOOK_SECONDS = 0.02


class Watch:
    """Follows the server's file."""

    def __init__(self, path: Path) -> None:
        """Start with nothing seen."""
        self.events: list[Event] = []
        self.accepted: set[str] = set()
        self._reader = Reader(path)
        self._opened: dict[int, float] = {}

    def look(self) -> None:
        """Take in what is new."""
        for event in self._reader.fresh():
            self.events.append(event)
            if event.kind is Kind.OPENED:
                self._opened[event.connection] = event.time
            elif event.kind is Kind.ACCEPTED:
                self.accepted.add(event.address)

    def first_message_after(self, instant: float) -> float | None:
        """Return when the first message came through a connection that was opened after the instant."""
        self.look()
        times = []
        for event in reversed(self.events):
            if event.time < instant:
                break
            if event.kind is Kind.ACCEPTED and self._opened[event.connection] > instant:
                times.append(event.time)
        return min(times, default=None)

    async def until(self, condition: Callable[[], bool], *, seconds: float) -> bool:
        """Look until the condition holds; False when it does not come to that in time."""
        end = monotonic() + seconds
        while True:
            self.look()
            if condition():
                return True
            if monotonic() >= end:
                return False
            await asyncio.sleep(LOOK_SECONDS)
