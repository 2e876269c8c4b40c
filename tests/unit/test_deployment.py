"""Dockerfile and docker-compose.yml against the code that they run."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from mailer.config import CommonSettings, load, parse_span
from mailer.v1 import backup_pb2, scheduler_pb2, sender_pb2
from services.backup.config import BackupServiceSettings
from services.scheduler.config import SchedulerSettings
from services.sender.config import SenderSettings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

SETTINGS: dict[str, type[CommonSettings]] = {
    "scheduler": SchedulerSettings,
    "sender": SenderSettings,
    "backup": BackupServiceSettings,
}
CONTRACTS = {
    "scheduler": scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"],
    "sender": sender_pb2.DESCRIPTOR.services_by_name["Sender"],
    "backup": backup_pb2.DESCRIPTOR.services_by_name["Backup"],
}
OURS = (*SETTINGS, "inbox")


def service(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", COMPOSE["services"][name])


def default(name: str, field: str) -> Any:
    """Return the default of a setting of a service."""
    return getattr(load(SETTINGS[name], {"MAILER_SETTINGS_FILE": "/dev/null"}), field)


def environment(name: str) -> dict[str, str]:
    """Return the environment of a container as compose makes it when nothing is set outside."""
    filled = {
        key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in service(name).get("environment", {}).items()
    }
    return image_environment() | filled


def image_environment() -> dict[str, str]:
    (block,) = re.findall(r"^ENV (.*?[^\\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    return dict(pair.split("=", 1) for pair in block.replace("\\\n", " ").split())


def instructions(keyword: str) -> list[str]:
    """Return what follows the keyword in the Dockerfile, each with its continued lines."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.removeprefix(keyword).strip() for line in joined.splitlines() if line.startswith(keyword + " ")]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_container_runs_the_module_of_its_service(name: str) -> None:
    assert service(name)["command"] == ["python", "-m", f"services.{name}"]
    assert importlib.util.find_spec(f"services.{name}.__main__") is not None


@pytest.mark.parametrize("name", SETTINGS)
def test_the_environment_is_one_that_the_service_starts_with(name: str) -> None:
    settings = load(SETTINGS[name], environment(name) | {"MAILER_SETTINGS_FILE": "/dev/null"})
    assert settings.host == "0.0.0.0"
    assert settings.data_dir == Path("/data")


@pytest.mark.parametrize("name", SETTINGS)
def test_every_variable_is_a_setting_of_some_service(name: str) -> None:
    known = {
        prefix + field.upper()
        for settings in SETTINGS.values()
        for prefix in ("MAILER_", settings.prefix)
        for field in settings.model_fields
    }
    assert {key for key in environment(name) if key.startswith("MAILER_")} - known == set()


def test_the_scheduler_finds_the_sender_by_its_name() -> None:
    settings = load(SchedulerSettings, environment("scheduler") | {"MAILER_SETTINGS_FILE": "/dev/null"})
    assert settings.sender_address == f"dns:///sender:{default('sender', 'port')}"


@pytest.mark.parametrize("name", SETTINGS)
def test_the_port_is_the_service_s_own_and_published_on_loopback_only(name: str) -> None:
    port = default(name, "port")
    assert service(name)["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert str(port) in instructions("EXPOSE")[0].split()


@pytest.mark.parametrize("name", SETTINGS)
def test_health_is_asked_of_the_service_itself(name: str) -> None:
    assert service(name)["healthcheck"]["test"] == [
        "CMD", "python", "-m", "mailer.health", f"127.0.0.1:{default(name, 'port')}",
        "--service", CONTRACTS[name].full_name,
    ]  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_stop_is_given_the_time_that_the_service_takes(name: str) -> None:
    settings = load(SETTINGS[name], {"MAILER_SETTINGS_FILE": "/dev/null"})
    needed = settings.drain.total_seconds()
    if isinstance(settings, SenderSettings):
        needed += settings.stop_grace.total_seconds()
    assert parse_span(service(name)["stop_grace_period"]).total_seconds() > needed + 5


@pytest.mark.parametrize("name", [*OURS, "postgres"])
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    container = service(name)
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert not container.keys() & {"privileged", "cap_add", "pid", "ipc"}


def test_every_volume_is_declared() -> None:
    used = {volume.split(":")[0] for container in COMPOSE["services"].values() for volume in container["volumes"]}
    assert used == COMPOSE["volumes"].keys()


def test_services_wait_for_those_they_need_to_be_healthy() -> None:
    for name in ("scheduler", "backup"):
        assert service(name)["depends_on"]["sender"] == {"condition": "service_healthy"}


def test_the_database_server_runs_only_when_asked_for() -> None:
    assert service("postgres")["profiles"] == ["postgres"]
    assert service("sender")["depends_on"]["postgres"]["required"] is False
    assert all("profiles" not in service(name) for name in OURS)


def test_the_inbox_is_on_the_loopback_of_the_sender() -> None:
    assert service("inbox")["network_mode"] == "service:sender"
    assert service("inbox")["command"][:2] == ["mailer", "inbox"]


def test_the_image_runs_as_nobody_special() -> None:
    assert instructions("USER") == ["10001:10001"]


def test_the_image_asks_all_three_services_how_they_are() -> None:
    command = json.loads(instructions("HEALTHCHECK")[0].split("CMD", 1)[1])
    ports = [default(name, "port") for name in SETTINGS]
    assert command == ["python", "-m", "mailer.health", *(f"127.0.0.1:{port}" for port in ports)]


def test_the_image_starts_a_command_that_the_project_installs() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert json.loads(instructions("CMD")[-1])[0] in scripts


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    kept = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {
        source
        for instruction in instructions("COPY")
        if not instruction.startswith("--from")
        for source in instruction.split()[:-1]
    }
    assert copied == kept
    assert [source for source in copied if not (ROOT / source).exists()] == []
