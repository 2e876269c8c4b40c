"""What is printed, for people and for programs."""

import json

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from mailer.cli.backup_view import health_text
from mailer.cli.output import Column, Output, state
from mailer.cli.words import count_of, enum_word, instant, printable, size
from mailer.v1 import backup_pb2, sender_pb2

COLUMNS = (Column("name"), Column("count", "right"), Column("why", optional=True), Column("id", is_id=True))
ROWS = [("Zoë [bold]", "1", "a long reason " * 30, "0123456789abcdef")]


def printed(output: Output, capsys: pytest.CaptureFixture[str]) -> str:
    output.print(output.table(COLUMNS, ROWS, empty="nothing there"))
    return capsys.readouterr().out


def test_json_has_the_names_of_the_proto_and_every_field_with_a_default(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).answer(sender_pb2.ListAccountsResponse(), lambda: "never asked for")
    assert json.loads(capsys.readouterr().out) == {"accounts": [], "next_page_token": ""}


def test_in_a_pipe_nothing_is_cut_coloured_or_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(Output(), capsys)
    assert "a long reason " * 29 in out
    assert "Zoë [bold]" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(("width", "is_whole"), [(60, False), (400, True)])
def test_a_narrow_terminal_leaves_out_what_it_can(
    width: int, is_whole: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output()
    monkeypatch.setattr(output.stdout, "_width", width)
    monkeypatch.setattr(output.stdout, "_force_terminal", True)
    monkeypatch.setattr(output.stdout, "no_color", True)
    out = printed(output, capsys)
    assert ("reason" in out) is is_whole
    assert ("In a wider terminal: why." in out) is not is_whole
    assert ("0123456789abcdef" in out) is is_whole
    assert "01234567" in out


def test_a_word_is_never_broken_over_two_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output()
    monkeypatch.setattr(output.stdout, "_width", 40)
    monkeypatch.setattr(output.stdout, "_force_terminal", True)
    monkeypatch.setattr(output.stdout, "no_color", True)
    columns = (Column("name"), Column("state", is_word=True), Column("id"))
    output.print(output.table(columns, [("a long name " * 5, "half finished", "f" * 32)]))
    assert "half finished" in capsys.readouterr().out


def test_an_empty_table_is_its_sentence() -> None:
    assert Output().table(COLUMNS, [], empty="nothing there") == "nothing there"


def test_the_colour_of_a_state_is_in_the_text() -> None:
    assert state("failed") == Text("failed", style="red")


@pytest.mark.parametrize("text", ["\x1b[31m", "a\x07b", "\x9b2J", "right\u202eleft", "line\u2028end"])
def test_nothing_that_a_terminal_obeys_is_printed(text: str) -> None:
    assert "\N{REPLACEMENT CHARACTER}" in printable(text)


def test_words_for_values() -> None:
    assert enum_word("STATE_HALF_OPEN", "STATE_") == "half open"
    assert enum_word("STATE_UNSPECIFIED", "STATE_") == ""
    assert instant(Timestamp()) == ""
    assert instant(Timestamp(seconds=10**15)) == "1000000000000000 s since 1970"
    assert (size(512), size(1536), size(5 * 2**40)) == ("512 B", "1.5 KiB", "5.0 TiB")
    assert (count_of(1, "line"), count_of(1200, "line")) == ("1 line", "1,200 lines")


def test_the_reason_of_a_failed_snapshot_ends_with_one_period() -> None:
    health = backup_pb2.BackupHealth(last_failure="The disk is full.")
    health.last_failure_time.FromSeconds(1)
    assert health_text(health).plain.endswith(": The disk is full.")
