"""Settings and status: kept in files beside the snapshots."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailer.errors import CannotStart
from services.backup.retention import Policy
from services.backup.schedule import parse
from services.backup.settings import Settings, SettingsFile
from services.backup.status import GRACE, Status, StatusFile, is_stale

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
AT_TWO = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def test_without_a_file_the_settings_are_the_defaults(tmp_path: Path) -> None:
    settings = SettingsFile(tmp_path / "settings.json").load()
    assert (settings.backup_schedule, settings.backup_retention) == ("0 2 * * *", 7)
    assert settings.policy == Policy(keep_last=7)


def test_settings_come_back_as_they_were_stored(tmp_path: Path) -> None:
    settings = Settings(
        backup_schedule="*/5 * * * *",
        time_zone="Europe/Berlin",
        backup_retention=3,
        further_rules=Policy(keep_daily=5, keep_within=timedelta(days=1, seconds=0.5)),
        drill_schedule="0 4 * * 0",
    )
    SettingsFile(tmp_path / "settings.json").store(settings)
    assert SettingsFile(tmp_path / "settings.json").load() == settings


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "further_rules": {"what": 1}}']
)
def test_a_damaged_file_stops_the_start_with_its_name_and_the_cure(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(CannotStart, match=r"settings\.json.*remove it"):
        SettingsFile(path).load()


def test_all_problems_are_named_with_their_fields() -> None:
    settings = Settings(
        backup_schedule="R R * * *", time_zone="Nowhere", backup_retention=0, drill_schedule="0 0 30 2 *"
    )
    assert [field for field, _ in settings.problems()] == [
        "backup_schedule",
        "drill_schedule",
        "time_zone",
        "backup_retention",
    ]


def test_an_empty_schedule_is_off() -> None:
    settings = Settings(backup_schedule="")
    assert settings.schedule is None
    assert settings.problems() == []


def test_a_failure_outlives_a_restart_and_a_success_ends_it(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "status.json")
    file.store(Status().succeeded(AT_TWO).failed(NOW, "the disk is full"))
    assert file.load() == Status(success_time=AT_TWO, failure_time=NOW, failure="the disk is full")
    assert file.load().succeeded(NOW) == Status(success_time=NOW)


def test_what_a_clock_that_was_ahead_has_noted_does_not_count() -> None:
    ahead = NOW + timedelta(days=400)
    status = Status(watched_since=ahead, success_time=ahead, failure_time=ahead, drill_time=ahead, failure="full")
    assert status.as_of(NOW) == Status(watched_since=NOW, failure_time=NOW, failure="full")
    past = Status(watched_since=AT_TWO, success_time=AT_TWO, drill_time=AT_TWO)
    assert past.as_of(NOW) == past


def test_without_a_past_instant_the_schedule_is_due_and_not_satisfied_for_ever() -> None:
    ahead = NOW + timedelta(days=400)
    assert Status(watched_since=ahead, success_time=ahead).done_until(NOW) < AT_TWO


def test_a_success_noted_late_does_not_take_back_a_later_one() -> None:
    assert Status().succeeded(NOW).succeeded(AT_TWO).success_time == NOW


def test_a_damaged_status_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text("{")
    assert StatusFile(path).load() == Status()


@pytest.mark.parametrize(
    ("newest", "now", "stale"),
    [
        (AT_TWO, NOW, False),
        (AT_TWO - timedelta(days=1), AT_TWO + GRACE - timedelta(seconds=1), False),
        (AT_TWO - timedelta(days=1), AT_TWO + GRACE, True),
        (None, NOW, True),
        (NOW + timedelta(days=400), NOW, True),
    ],
)
def test_a_schedule_is_stale_once_its_snapshot_is_late(newest: datetime | None, now: datetime, stale: bool) -> None:
    assert is_stale(parse("0 2 * * *", "UTC"), newest=newest, status=Status(), now=now) is stale


def test_a_schedule_set_just_now_is_not_stale() -> None:
    status = Status(watched_since=NOW - timedelta(minutes=1))
    every_minute = parse("* * * * *", "UTC")
    assert not is_stale(every_minute, newest=AT_TWO - timedelta(days=9), status=status, now=NOW)


def test_no_schedule_is_never_stale() -> None:
    assert not is_stale(None, newest=AT_TWO - timedelta(days=900), status=Status(), now=NOW)
