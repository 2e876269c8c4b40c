"""One bit of a snapshot is not what it was: it is seen, whichever it is, and nothing is done with the snapshot."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from mailer.clock import SystemClock
from mailer.errors import DataLoss
from services.backup.job import Job
from services.backup.restore import Restorer
from services.backup.snapshot import Snapshot, State
from services.backup.vault import Vault
from services.backup.verify import verify
from tests.integration.backup.mailing import add_delivery, add_run, rows

Take = Callable[[], Snapshot]

FLIPS = 300
IN_THE_MANIFEST = 100


def flipped(data: bytes, bits: list[int]) -> Iterator[bytes]:
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def everything(live: Path) -> dict[str, bytes]:
    """Return the bytes of the database, and of what lies beside it."""
    return {path.name: path.read_bytes() for path in live.parent.iterdir() if path.is_file()}


@pytest.mark.parametrize("share", range(4))
def test_each_of_three_hundred_flipped_bits_is_refused_and_nothing_is_touched(  # noqa: PLR0917
    live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job, share: int
) -> None:
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run", state="sent")
    snapshot = take()
    add_delivery(live, "bob", run_id="run")
    packed, manifest = vault.packed_path(snapshot), vault.directory / f"{snapshot.snapshot_id}.json"
    random = Random(share)
    counts = {packed: (FLIPS - IN_THE_MANIFEST) // 4, manifest: IN_THE_MANIFEST // 4}
    before = everything(live)
    refused = 0
    for path, count in counts.items():
        whole = path.read_bytes()
        for damaged in flipped(whole, random.sample(range(len(whole) * 8), count)):
            first = manifest.read_bytes()
            path.write_bytes(damaged)
            with pytest.raises(DataLoss) as caught:
                restorer.restore(snapshot.snapshot_id, job, request_id=f"r{refused}")
            assert caught.value.reason == "SNAPSHOT_DAMAGED"
            known = verify(vault, vault.get(snapshot.snapshot_id), job, now=SystemClock().now())
            assert known.state is State.DAMAGED
            assert [one.state for one in vault.snapshots()] == [State.DAMAGED]
            assert everything(live) == before
            refused += 1
            manifest.write_bytes(first)
            path.write_bytes(whole)
    assert refused == FLIPS // 4
    assert [path.name for path in (vault.directory / "work").iterdir()] == []
    assert verify(vault, vault.get(snapshot.snapshot_id), job, now=SystemClock().now()).state is State.OK
    restorer.restore(snapshot.snapshot_id, job, request_id="whole")
    assert rows(live, "SELECT delivery_key, state FROM deliveries ORDER BY 1") == [("ada", "sent"), ("bob", "pending")]
