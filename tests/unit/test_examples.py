"""What a newcomer tries first has to work: the files of examples/."""

import csv
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from mailer.message.template import Mode, compile_template
from mailer.recipients import CheckedRecipient, RecipientProblem, check_recipient, read_variables
from mailer.v1 import sender_pb2

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = compile_template((EXAMPLES / "newsletter.txt").read_text(encoding="utf-8"), Mode.TEXT)
HTML = compile_template((EXAMPLES / "newsletter.html").read_text(encoding="utf-8"), Mode.HTML)
REQUIRED = (TEXT.variables | HTML.variables) - {"address", "display_name"}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    with (EXAMPLES / "recipients.csv").open(encoding="utf-8", newline="") as file:
        return [{column: cell for column, cell in row.items() if cell is not None} for row in csv.DictReader(file)]


def recipient(row: dict[str, Any]) -> sender_pb2.Recipient:
    variables = {
        column: json.loads(cell) if cell.startswith(("[", "{")) else cell
        for column, cell in row.items()
        if column != "address"
    }
    return ParseDict({"address": row["address"], "variables": variables}, sender_pb2.Recipient())


def checked(rows: list[dict[str, Any]]) -> tuple[list[CheckedRecipient], dict[str, int]]:
    """Return the good ones, and the reason of each bad one by its address."""
    good: list[CheckedRecipient] = []
    bad: dict[str, int] = {}
    for row in rows:
        try:
            good.append(check_recipient(recipient(row), REQUIRED))
        except RecipientProblem as problem:
            bad[row["address"]] = problem.reason
    return good, bad


def test_the_recipients_are_what_the_script_writes() -> None:
    script = runpy.run_path(str(EXAMPLES / "make_recipients.py"))
    assert (EXAMPLES / "recipients.csv").read_text(encoding="utf-8") == script["recipients"]()


def test_the_templates_need_only_what_the_columns_give(rows: list[dict[str, Any]]) -> None:
    assert REQUIRED == {"name", "city", "plan", "items"} == rows[0].keys() - {"address"}


def test_500_recipients_are_good_and_no_two_are_one_mailbox(rows: list[dict[str, Any]]) -> None:
    good, _ = checked(rows)
    assert len({one.address.key for one in good}) == len(good) == 500


def test_three_lines_are_bad_each_in_its_own_way(rows: list[dict[str, Any]]) -> None:
    _, bad = checked(rows)
    assert bad == {
        "ann@post.example, bob@post.example": sender_pb2.RejectedRecipient.REASON_INVALID_ADDRESS,
        "grace.hopper.mail.example": sender_pb2.RejectedRecipient.REASON_INVALID_ADDRESS,
        "shortened@mail.example": sender_pb2.RejectedRecipient.REASON_MISSING_VARIABLE,
    }


def test_every_message_renders_in_both_forms(rows: list[dict[str, Any]]) -> None:
    good, _ = checked(rows)
    for one in good:
        variables = read_variables(one.variables, one.address)
        text, html = TEXT.render(variables), HTML.render(variables)
        assert variables["name"] in text
        assert "{" not in text + html
        assert "<soft>" not in html


def test_the_list_covers_what_makes_mail_hard(rows: list[dict[str, Any]]) -> None:
    everything = "".join(row["address"] + row["name"] for row in rows)
    assert all(sample in everything for sample in ("é", "🥐", "ليلى", "כהן", "王", "'", "@bücher.example"))
    assert any(one.address.needs_smtputf8 for one in checked(rows)[0])
