"""What was acknowledged under which incarnation of the database, and so what every copy of it must hold. Pure.

The promise, row by row. A restore ends one era and begins the next:

- what was acknowledged in an era is in the live database as long as the era lasts, and in the snapshot of the state
  before the restore that ends it: nothing falls into a gap;
- an era begins with exactly what the restored snapshot has of the tables that a restore takes back;
- facts (sent, suppressed) are in every later state, whichever snapshot is restored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.backup.diary import Written
from chaos.backup.tables import Content, Ledger, Numbers

_NONE = Numbers(0, -1, 0)


@dataclass(slots=True)
class History:
    """The eras of one live database."""

    current: str
    acknowledged: dict[tuple[str, str], Numbers] = field(default_factory=dict)
    _origins: dict[str, Ledger] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin the first era with nothing."""
        self._origins[self.current] = {}

    def note(self, writer: str, written: Written) -> None:
        """Take in one acknowledged write; a writer numbers them without a gap."""
        key = written.era, writer
        known = self.acknowledged.get(key)
        self.acknowledged[key] = (
            Numbers(written.number, written.number, 1)
            if known is None
            else Numbers(known.first, written.number, known.count + 1)
        )

    def known(self, *, before: str = "") -> Ledger:
        """Return what has been acknowledged up to now; with `before`, up to the beginning of that era."""
        return {key: numbers for key, numbers in self.acknowledged.items() if key[0] != before}

    def begin(self, era: str, origin: Ledger) -> None:
        """Begin another era, with what a snapshot had."""
        self.current = era
        self._origins[era] = origin

    def missing(self, content: Content, known: Ledger) -> int:
        """Return how many acknowledged rows a copy lacks that was begun when all of `known` was acknowledged.

        Rows that came from another state count, too. A copy of an era that has not begun here is not judged.
        """
        if content.era not in self._origins:
            return 0
        expected = {**self._origins[content.era], **{key: one for key, one in known.items() if key[0] == content.era}}
        lost = sum(content.ledger.get(key, _NONE).lacks(numbers) for key, numbers in expected.items())
        came_back = sum(
            max(0, numbers.count - expected.get(key, _NONE).count)
            for key, numbers in content.ledger.items()
            if key[0] != content.era
        )
        facts = sum(content.facts.get(writer, _NONE).lacks(numbers) for writer, numbers in _facts(known).items())
        return lost + came_back + facts


def _facts(known: Ledger) -> Mapping[str, Numbers]:
    """Return what each writer has done in all eras: numbers go on through them."""
    last: dict[str, int] = {}
    for (_, writer), numbers in known.items():
        last[writer] = max(last.get(writer, -1), numbers.last)
    return {writer: Numbers(0, number, number + 1) for writer, number in last.items()}
