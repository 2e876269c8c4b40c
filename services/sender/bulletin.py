"""Tells watchers inside this process that a run changed. What other processes do is found by looking now and then."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Bulletin:
    """One event per watcher and run."""

    def __init__(self) -> None:
        """Start without watchers."""
        self._watchers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def publish(self, run_ids: Iterable[str]) -> None:
        """Wake everybody who watches one of these runs."""
        if self._watchers:
            for run_id in run_ids:
                for event in self._watchers.get(run_id, ()):
                    event.set()

    @contextmanager
    def watch(self, run_id: str) -> Iterator[asyncio.Event]:
        """Lend an event that is set whenever the run changes; the watcher clears it."""
        event = asyncio.Event()
        self._watchers[run_id].add(event)
        try:
            yield event
        finally:
            self._watchers[run_id].discard(event)
            if not self._watchers[run_id]:
                del self._watchers[run_id]
