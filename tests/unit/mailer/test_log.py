import io
import json
import logging
from typing import Any

import pytest

from mailer.log import LogFormat, bound, configure, get_logger
from mailer.secrets import Secret

CANARY = "canary-pa55word"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_carries_the_bound_ids_the_service_and_the_time() -> None:
    stream = io.StringIO()
    configure(service="sender", level="info", stream=stream)
    with bound(run_id="r1", delivery_id="d1"):
        get_logger("mailer.test").info("accepted", reply=250)
    get_logger("mailer.test").info("idle")
    first, second = lines_of(stream)
    assert first["event"] == "accepted"
    assert (first["run_id"], first["delivery_id"], first["reply"], first["service"]) == (
        "r1",
        "d1",
        250,
        "sender",
    )
    assert first["time"].endswith("Z")
    assert "run_id" not in second


def test_the_level_holds() -> None:
    stream = io.StringIO()
    configure(level="warning", stream=stream)
    get_logger("mailer.test").info("not shown")
    get_logger("mailer.test").warning("shown")
    assert [line["event"] for line in lines_of(stream)] == ["shown"]


def test_libraries_come_out_in_the_same_form() -> None:
    stream = io.StringIO()
    configure(service="sender", stream=stream)
    logging.getLogger("somebody.else").warning("%s of %s", 1, 2)
    (line,) = lines_of(stream)
    assert (line["event"], line["level"], line["service"]) == ("1 of 2", "warning", "sender")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_secrets_are_masked_by_type_and_by_name(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure(log_format=log_format, stream=stream)
    get_logger("mailer.test").info(
        "login",
        password=CANARY,
        smtp_password=CANARY,
        anything=Secret(CANARY),
        Authorization=f"Bearer {CANARY}",
        nested={"deep": [{"client_secret": CANARY}], "account": {"sealing_key": CANARY}},
        user="ada",
    )
    try:
        raise ValueError(Secret(CANARY))
    except ValueError:
        get_logger("mailer.test").exception("failed", api_key=CANARY)
    logging.getLogger("somebody.else").warning("token", extra={"token": CANARY})
    text = stream.getvalue()
    assert CANARY not in text
    assert "***" in text
    assert "ada" in text


def test_harmless_names_stay_readable() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    get_logger("mailer.test").info("claimed", claim_token=7)
    assert lines_of(stream)[0]["claim_token"] == 7


def test_a_stranger_cannot_forge_a_line_or_colour_the_terminal() -> None:
    stream = Terminal()
    configure(stream=stream)
    get_logger("mailer.test").info("refused", reply="550 no\n2026-01-01 [info] sent\x1b[2J")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "\x1b[2J" not in text


def test_a_terminal_gets_text_and_a_file_gets_json() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        configure(stream=stream)
        get_logger("mailer.test").info("hello")
    assert not terminal.getvalue().startswith("{")
    assert lines_of(file)[0]["event"] == "hello"
