"""Ids and manifests."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.backup.snapshot import (
    ManifestDamaged,
    Snapshot,
    State,
    Trigger,
    is_snapshot_id,
    make_id,
    time_in_id,
)

NOW = datetime(2026, 11, 23, 12, 34, 56, 789, tzinfo=UTC)
SNAPSHOT = Snapshot(
    snapshot_id=make_id(NOW, suffix="0a1b2c3d"),
    created_time=NOW,
    trigger=Trigger.CRON,
    note="über",
    row_counts={"deliveries": 3},
    schema_revisions={"sender": "0001"},
    packed_sha256="00" * 32,
    writer_wait_seconds=2.5e-05,
    verified_time=NOW,
)


def test_an_id_tells_its_second_and_is_recognised() -> None:
    assert SNAPSHOT.snapshot_id == "mailer_20261123T123456Z-0a1b2c3d"
    assert is_snapshot_id(SNAPSHOT.snapshot_id)
    assert time_in_id(SNAPSHOT.snapshot_id) == NOW.replace(microsecond=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "../../etc/passwd",
        "mailer_20261123T123456Z-0a1b2c3d/..",
        "mailer_20261123T123456Z-0a1b2c3d\n",
        "mailer_20261123T123456Z-0A1B2C3D",
        "mailer_20261123T123456Z-0a1b2c3",
        "mailer_\uff120261123T123456Z-0a1b2c3d",
        "x" * 100_000,
    ],
)
def test_nothing_else_is_an_id(text: str) -> None:
    assert not is_snapshot_id(text)


def test_a_manifest_comes_back_as_it_was_written() -> None:
    assert Snapshot.from_json(SNAPSHOT.to_json(), snapshot_id=SNAPSHOT.snapshot_id) == SNAPSHOT


def test_no_flipped_bit_goes_unseen() -> None:
    whole = SNAPSHOT.to_json()
    assert b"2.5e-05" in whole  # one bit away from 2.5E-05, which is the same number
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ManifestDamaged):
            Snapshot.from_json(bytes(data), snapshot_id=SNAPSHOT.snapshot_id)


def test_a_manifest_under_another_name_is_damaged() -> None:
    with pytest.raises(ManifestDamaged, match="belongs to"):
        Snapshot.from_json(SNAPSHOT.to_json(), snapshot_id=make_id(NOW, suffix="ffffffff"))


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b'"x"', b"[" * 100_000, b"\xff\xfe"])
def test_whatever_else_lies_there_is_damaged(data: bytes) -> None:
    with pytest.raises(ManifestDamaged):
        Snapshot.from_json(data, snapshot_id=SNAPSHOT.snapshot_id)


@pytest.mark.parametrize(
    "fields",
    [
        {"note": 5},
        {"damage": 5},
        {"pinned": 1},
        {"packed_size_bytes": "12"},
        {"packed_size_bytes": True},
        {"plain_size_bytes": -3},
        {"plain_size_bytes": 1 << 64},
        {"duration_seconds": float("nan")},
        {"row_counts": None},
        {"row_counts": {"deliveries": -1}},
        {"schema_revisions": []},
        {"schema_revisions": {"sender": None}},
    ],
    ids=str,
)
def test_a_value_of_the_wrong_kind_is_damage_also_under_the_right_hash(fields: dict[str, Any]) -> None:
    with pytest.raises(ManifestDamaged, match="a field"):
        Snapshot.from_json(replace(SNAPSHOT, **fields).to_json(), snapshot_id=SNAPSHOT.snapshot_id)


@pytest.mark.parametrize("year", [1, 1969, 9999])
def test_an_instant_that_no_clock_has_shown_is_damage(year: int) -> None:
    data = replace(SNAPSHOT, created_time=NOW.replace(year=year)).to_json()
    with pytest.raises(ManifestDamaged):
        Snapshot.from_json(data, snapshot_id=SNAPSHOT.snapshot_id)


def test_the_state_says_what_is_known() -> None:
    assert SNAPSHOT.state is State.OK
    assert replace(SNAPSHOT, verified_time=None).state is State.UNVERIFIED
    assert SNAPSHOT.with_damage("a bit").state is State.DAMAGED
