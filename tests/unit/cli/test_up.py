"""What `mailer up` starts, and with which environment."""

import os
import socket

import pytest

from mailer.cli.failure import Failure
from mailer.cli.settings import CommandSettings
from mailer.cli.up import child_environment, plan, refuse_misspelt, refuse_taken_metrics
from mailer.config import load

NOTHING: dict[str, int | None] = {}


def settings(**environ: str) -> CommandSettings:
    return load(CommandSettings, {"MAILER_SETTINGS_FILE": os.devnull, **environ})


def test_every_service_has_its_usual_port() -> None:
    planned = plan(settings(), NOTHING)
    assert [(one.name, one.address) for one in planned] == [
        ("scheduler", "127.0.0.1:50051"),
        ("sender", "127.0.0.1:50052"),
        ("backup", "127.0.0.1:50053"),
    ]


def test_the_command_line_wins_over_the_settings() -> None:
    planned = plan(settings(MAILER_SENDER_PORT="7000", MAILER_BACKUP_PORT="7001"), {"sender": 8000})
    assert [one.port for one in planned] == [50051, 8000, 7001]


def test_port_0_takes_free_ones() -> None:
    ports = [one.port for one in plan(settings(), {"scheduler": 0, "sender": 0, "backup": 0})]
    assert 0 not in ports
    assert len(set(ports)) == 3


def test_two_services_cannot_share_a_port() -> None:
    with pytest.raises(Failure, match="same port"):
        plan(settings(), {"sender": 50051})


def test_who_listens_everywhere_is_asked_on_loopback() -> None:
    assert plan(settings(MAILER_HOST="0.0.0.0"), NOTHING)[0].address == "127.0.0.1:50051"


def test_the_services_share_one_database_and_the_scheduler_finds_the_sender() -> None:
    given = settings(MAILER_SENDER_PORT="7000")
    environment = child_environment({"PATH": "x"}, given, plan(given, NOTHING), metrics=False)
    assert environment["MAILER_DATA_DIR"] == "data"
    assert environment["MAILER_SENDER_PORT"] == "7000"
    assert environment["MAILER_SCHEDULER_SENDER_ADDRESS"] == "127.0.0.1:7000"
    assert environment["MAILER_BACKUP_METRICS_PORT"] == "0"
    assert environment["PATH"] == "x"


def test_a_sender_elsewhere_stays_where_the_environment_says() -> None:
    given = {"MAILER_SCHEDULER_SENDER_ADDRESS": "dns:///sender:50052"}
    environment = child_environment(given, settings(), plan(settings(), NOTHING), metrics=True)
    assert environment["MAILER_SCHEDULER_SENDER_ADDRESS"] == "dns:///sender:50052"


def test_a_taken_port_of_metrics_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = settings(MAILER_SENDER_METRICS_PORT=str(taken.getsockname()[1]))
        with pytest.raises(Failure, match=r"MAILER_SENDER_METRICS_PORT .* --no-metrics"):
            refuse_taken_metrics("sender", given)


def test_metrics_that_are_off_need_no_port() -> None:
    refuse_taken_metrics("sender", settings(MAILER_SENDER_METRICS_PORT="0"))


def test_a_service_that_is_misspelt_in_a_name_is_said() -> None:
    with pytest.raises(Failure, match=r"MAILER_SCHEDULR_PORT: .* did you mean MAILER_SCHEDULER_PORT?"):
        refuse_misspelt({"MAILER_SCHEDULR_PORT": "1", "MAILER_SENDER_PORT": "2"})


@pytest.mark.parametrize("name", ["MAILER_SECRET_MAIN", "MAILER_SENDER_ADDRESS", "MAILER_DATA_DIR", "SCHEDULR_PORT"])
def test_other_names_are_nobodys_business(name: str) -> None:
    refuse_misspelt({name: "x"})
