""".env.example against the settings classes: complete, explained, and true to the defaults."""

import os
import re
from pathlib import Path

import pytest

from mailer.cli.settings import CommandSettings
from mailer.config import CommonSettings, load
from services.backup.config import BackupServiceSettings
from services.scheduler.config import SchedulerSettings
from services.sender.config import SenderSettings

ROOT = Path(__file__).parents[2]
LINES = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
READERS = (SchedulerSettings, SenderSettings, BackupServiceSettings, CommandSettings)
SETTING = re.compile(r"#(MAILER_[A-Z0-9_]+)=(.*)")


# `mailer` listens nowhere: the ports that every settings class has mean nothing to it.
MEANINGLESS = {"MAILER_PORT", "MAILER_METRICS_PORT"}
NO_FILE = {"MAILER_SETTINGS_FILE": os.devnull}


def shown() -> dict[str, str]:
    """Return name and value of every line that shows a setting."""
    return {match[1]: match[2] for line in LINES if (match := SETTING.fullmatch(line))}


def names(settings: type[CommonSettings]) -> dict[str, str]:
    """Return the fields of a settings class by the names that set them."""
    by_name = {settings.name_of(field): field for field in settings.model_fields}
    return {name: field for name, field in by_name.items() if name not in MEANINGLESS}


def test_every_setting_is_shown_and_every_line_shown_is_a_setting() -> None:
    assert shown().keys() == {"MAILER_SETTINGS_FILE"}.union(*(names(settings) for settings in READERS))


@pytest.mark.parametrize("settings", READERS)
def test_the_values_shown_are_the_defaults(settings: type[CommonSettings]) -> None:
    assert load(settings, shown() | NO_FILE) == load(settings, NO_FILE)


@pytest.mark.parametrize("settings", READERS)
def test_an_empty_value_stands_for_none(settings: type[CommonSettings]) -> None:
    defaults = load(settings, NO_FILE)
    empty = {name for name in names(settings) if not shown()[name]}
    assert empty == {name for name, field in names(settings).items() if getattr(defaults, field) is None}


def test_nothing_is_set_by_copying_the_file() -> None:
    assert [line for line in LINES if line and not line.startswith("#")] == []


def test_every_setting_is_explained() -> None:
    unexplained = [
        line
        for before, line in zip(["", *LINES], LINES, strict=False)
        if SETTING.fullmatch(line) and not before.startswith("# ")
    ]
    assert unexplained == []


def test_the_documents_name_only_settings_that_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        (page.name, name) for page in pages for name in re.findall(r"\bMAILER_[A-Z_]*[A-Z]", page.read_text("utf-8"))
    }
    # MAILER_SECRET_... are the names of passwords: whoever adds an account chooses them.
    assert {(page, name) for page, name in named if not (known(name) or name.startswith("MAILER_SECRET_"))} == set()


def known(name: str) -> bool:
    """Say whether some process reads the name: as shown, or for one service alone."""
    return name in NO_FILE or any(
        name in {settings.name_of(field), settings.prefix + field.upper()}
        for settings in READERS
        for field in settings.model_fields
    )
