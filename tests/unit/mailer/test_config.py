from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from mailer.config import CommonSettings, SettingsError, Span, load, parse_span


class SenderSettings(CommonSettings):
    prefix: ClassVar[str] = "MAILER_SENDER_"

    port: int = 50052
    connections: int = Field(10, ge=1)
    retry_after: Span = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(SenderSettings, environ)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_nothing_set_is_enough() -> None:
    settings = load(SenderSettings, {})
    assert settings.database_url == "sqlite:///data/mailer.db"
    assert (settings.host, settings.port, settings.drain) == ("127.0.0.1", 50052, timedelta(seconds=20))
    assert settings.sealing_key_file == Path("data/sealing.key")
    assert settings.with_reflection


def test_the_data_folder_moves_what_lies_in_it() -> None:
    settings = load(SenderSettings, {"MAILER_DATA_DIR": "/srv/mail"})
    assert settings.database_url == "sqlite:////srv/mail/mailer.db"
    assert settings.sealing_key_file == Path("/srv/mail/sealing.key")


def test_the_services_own_name_wins_over_the_common_one() -> None:
    environ = {"MAILER_LOG_LEVEL": "DEBUG", "MAILER_LOG_FORMAT": "json", "MAILER_SENDER_LOG_LEVEL": "error"}
    settings = load(SenderSettings, environ)
    assert (settings.log_level, settings.log_format) == ("error", "json")


def test_ports_are_never_shared() -> None:
    environ = {"MAILER_PORT": "1", "MAILER_METRICS_PORT": "2", "MAILER_SENDER_METRICS_PORT": "3"}
    settings = load(SenderSettings, environ)
    assert (settings.port, settings.metrics_port) == (50052, 3)
    assert SenderSettings.name_of("port") == "MAILER_SENDER_PORT"


def test_another_service_is_not_disturbed() -> None:
    assert load(SenderSettings, {"MAILER_BACKUP_PORT": "nonsense"}).port == 50052


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert load(SenderSettings, {"MAILER_SENDER_PORT": ""}).port == 50052


@pytest.mark.parametrize("file_name", [".env", "mailer.conf"])
def test_a_file_is_read_and_the_environment_wins(tmp_path: Path, file_name: str) -> None:
    (tmp_path / file_name).write_text("# comment\nMAILER_SENDER_CONNECTIONS=3\nMAILER_LOG_LEVEL=error\n")
    environ = {"MAILER_LOG_LEVEL": "warning"}
    if file_name != ".env":
        environ["MAILER_SETTINGS_FILE"] = file_name
    settings = load(SenderSettings, environ)
    assert (settings.connections, settings.log_level) == (3, "warning")


def test_all_problems_are_reported_together_each_with_the_name_to_set() -> None:
    problems = problems_of(
        {
            "MAILER_SENDER_CONNECTIONS": "0",
            "MAILER_SENDER_RETRY_AFTER": "soon",
            "MAILER_LOG_LEVEL": "loud",
            "MAILER_SENDER_CONECTIONS": "5",
            "MAILER_SETTINGS_FILE": "nowhere.env",
        }
    )
    assert sorted(problem.split(":")[0] for problem in problems) == [
        "MAILER_LOG_LEVEL",
        "MAILER_SENDER_CONECTIONS",
        "MAILER_SENDER_CONNECTIONS",
        "MAILER_SENDER_RETRY_AFTER",
        "MAILER_SETTINGS_FILE",
    ]
    assert "did you mean MAILER_SENDER_CONNECTIONS?" in "".join(problems)
    assert all("\n" not in problem for problem in problems)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert load(SenderSettings, {"MAILER_HOST": host}).on_loopback


def test_another_address_needs_tls_or_the_explicit_flag() -> None:
    (problem,) = problems_of({"MAILER_HOST": "0.0.0.0"})
    assert problem.startswith("MAILER_TLS_CERTIFICATE_FILE: ")
    settings = load(SenderSettings, {"MAILER_HOST": "0.0.0.0", "MAILER_INSECURE": "true"})
    assert not settings.with_reflection


def test_a_certificate_needs_its_key_and_both_must_be_readable(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_text("x")
    (missing,) = problems_of({"MAILER_TLS_CERTIFICATE_FILE": str(certificate)})
    assert missing.startswith("MAILER_TLS_KEY_FILE: ")
    (unreadable,) = problems_of(
        {"MAILER_TLS_CERTIFICATE_FILE": str(certificate), "MAILER_TLS_KEY_FILE": str(tmp_path / "none.pem")}
    )
    assert "cannot be read" in unreadable


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("30s", 30),
        ("1h", 3600),
        ("48h", 172800),
        ("1h30m", 5400),
        ("2d", 172800),
        ("90", 90),
        ("0.5", 0.5),
        ("250ms", 0.25),
        (" 1h 30m ", 5400),
        ("0", 0),
    ],
)
def test_spans(text: str, seconds: float) -> None:
    assert parse_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5 weeks", "m", "5m!", "9" * 30])
def test_spans_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a span"):
        parse_span(text)


def test_secrets_in_settings_do_not_print() -> None:
    environ = {
        "MAILER_SEALING_KEY": "canary-key",
        "MAILER_DATABASE_URL": "postgresql://mailer:canary-word@db/mailer",
    }
    settings = load(SenderSettings, environ)
    assert "canary" not in repr(settings)
    assert settings.sealing_key is not None
    assert settings.sealing_key.reveal() == "canary-key"
