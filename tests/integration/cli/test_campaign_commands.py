"""Campaigns by command line, over a real channel."""

import asyncio
from pathlib import Path

import pytest

from mailer.clock import SystemClock
from tests.fakes.scripted_scheduler import ScriptedScheduler, State
from tests.integration.cli.conftest import CommandLine

NEXT_YEAR = SystemClock().now().year + 1


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    template, people = tmp_path / "t.html", tmp_path / "people.csv"
    template.write_text("<p>Hello {{ name }}</p>", encoding="utf-8")
    people.write_text(
        'email;name;items\nada@example.org;Ada;[1]\n\nbroken;B;[]\nx@example.org;X;["a"\nbob@example.org;Bob;[]\n',
        encoding="utf-8",
    )
    return str(template), str(people)


async def test_one_command_creates_imports_and_schedules(
    mailer: CommandLine, scheduler: ScriptedScheduler, files: tuple[str, str]
) -> None:
    template, people = files
    content = ("--template", template, "--subject", "Hello", "--from", "Ida <ida@example.org>")
    when = ("--at", f"{NEXT_YEAR}-12-01 09:00", "--zone", "Europe/Berlin")
    outcome = await mailer("campaign", "create", "--name", "winter", *content, "--recipients", people, *when, "--json")
    assert outcome.status == 0
    stored = scheduler.created[0].campaign.content
    assert (stored.html, stored.from_address.display_name) == ("<p>Hello {{ name }}</p>", "Ida")
    assert scheduler.scheduled[0].schedule.send_time.ToJsonString() == f"{NEXT_YEAR}-12-01T08:00:00Z"
    assert list(scheduler.recipients) == ["ada@example.org", "bob@example.org"]
    assert outcome.document["campaign"]["state"] == "STATE_SCHEDULED"
    assert [(one["line"], one["address"]) for one in outcome.document["import"]["rejected"]] == [
        (4, "broken"),
        (5, "x@example.org"),
    ]


@pytest.fixture
def large(tmp_path: Path) -> str:
    file = tmp_path / "large.zip"
    file.write_bytes(bytes(3 * 1024 * 1024 + 1))
    return str(file)


async def test_nothing_is_stored_when_the_command_line_is_wrong(
    mailer: CommandLine, scheduler: ScriptedScheduler, files: tuple[str, str], large: str
) -> None:
    template, people = files
    content = ("--name", "w", "--template", template, "--subject", "Hello", "--from", "ida@example.org")
    for wrong in (
        ("--at", "2027-03-28 02:30", "--zone", "Europe/Berlin"),
        ("--at", f"{NEXT_YEAR}-12-01 09:00"),
        ("--at", "2020-12-01 09:00", "--zone", "UTC"),
        ("--cron", "0 25 * * *", "--zone", "UTC"),
        ("--now",),
        ("--now", "--cron", "0 9 * * 1", "--zone", "UTC"),
        ("--recipients", f"{people}.gone"),
        ("--recipients", template),
        ("--attach", large),
        ("--template-id", "winter"),
        ("--zone", "Mars/Olympus"),
    ):
        assert (await mailer("campaign", "create", *content, *wrong)).status == 2
    assert scheduler.created == []


async def test_the_same_request_id_goes_out_again_when_the_service_was_away(
    mailer: CommandLine, scheduler: ScriptedScheduler
) -> None:
    scheduler.break_creates = 2
    outcome = await mailer("campaign", "create", "--name", "w", "--template-id", "0" * 32)
    assert outcome.status == 0
    assert len(scheduler.created) == 3
    assert len({request.request_id for request in scheduler.created}) == 1


async def test_all_wrong_fields_are_said_in_one_sentence(mailer: CommandLine, files: tuple[str, str]) -> None:
    outcome = await mailer("campaign", "create", "--name", "w", "--template", files[0], "--json")
    assert outcome.status == 2
    error = outcome.document["error"]
    assert error["code"] == "INVALID_ARGUMENT"
    assert [one["field"] for one in error["field_violations"]] == [
        "campaign.content.subject",
        "campaign.content.from_address",
    ]
    assert outcome.err == "mailer: --subject: is missing: add one; --from: is missing: add one.\n"


async def test_a_broken_import_starts_again_and_counts_everybody_once(
    mailer: CommandLine, scheduler: ScriptedScheduler, tmp_path: Path
) -> None:
    scheduler.add("a" * 32, "winter")
    scheduler.break_imports = 1
    people = tmp_path / "people.csv"
    people.write_text("address\n" + "".join(f"p{number}@example.org\n" for number in range(2500)) + "nobody\n")
    outcome = await mailer("campaign", "import", "winter", str(people), "--json")
    assert outcome.status == 0
    assert outcome.document["accepted_count"] == "2500"
    assert outcome.document["duplicate_count"] == "0"
    assert outcome.document["rejected"] == [
        {"line": 2502, "address": "nobody", "description": "no @: write an address"}
    ]
    assert "nobody is added twice" in outcome.err


async def test_importing_again_finds_everybody_there(
    mailer: CommandLine, scheduler: ScriptedScheduler, files: tuple[str, str]
) -> None:
    scheduler.add("a" * 32, "winter")
    await mailer("campaign", "import", "winter", files[1])
    outcome = await mailer("campaign", "import", "winter", files[1], "--json")
    assert (outcome.document["accepted_count"], outcome.document["duplicate_count"]) == ("0", "2")


async def test_heavy_recipients_travel_in_small_messages(
    mailer: CommandLine, scheduler: ScriptedScheduler, tmp_path: Path
) -> None:
    scheduler.add("a" * 32, "winter")
    people = tmp_path / "people.csv"
    people.write_text("address,text\n" + "".join(f"p{number}@example.org,{'x' * 15_000}\n" for number in range(300)))
    assert (await mailer("campaign", "import", "winter", str(people))).status == 0
    assert len(scheduler.recipients) == 300
    assert scheduler.largest_message < 2 * 1024 * 1024


async def test_a_file_that_is_not_utf8_is_refused_before_anything_is_sent(
    mailer: CommandLine, scheduler: ScriptedScheduler, tmp_path: Path
) -> None:
    scheduler.add("a" * 32, "winter")
    people = tmp_path / "people.csv"
    people.write_bytes(b"address,city\nada@example.org,Ulm\nbob@example.org,Z\xfcrich\n")
    outcome = await mailer("campaign", "import", "winter", str(people))
    assert outcome.status == 2
    assert "line 3 is not UTF-8" in outcome.err
    assert scheduler.recipients == {}


async def test_strict_refuses_a_file_with_bad_lines(
    mailer: CommandLine, scheduler: ScriptedScheduler, files: tuple[str, str]
) -> None:
    scheduler.add("a" * 32, "winter")
    assert (await mailer("campaign", "import", "winter", files[1], "--strict")).status == 1


async def test_watching_survives_a_restart_of_the_scheduler(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    scheduler.add("a" * 32, "winter")
    scheduler.streams = [[State.STATE_SCHEDULED, State.STATE_RUNNING], [], [State.STATE_RUNNING, State.STATE_FINISHED]]
    outcome = await asyncio.wait_for(mailer("campaign", "watch", "winter"), 30)
    assert outcome.status == 0
    assert scheduler.streams == []
    assert "connecting again" in outcome.err
    assert "finished" in outcome.out


async def test_watching_prints_the_last_state_alone_as_json(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    scheduler.add("a" * 32, "winter")
    scheduler.streams = [[State.STATE_RUNNING, State.STATE_CANCELLED]]
    outcome = await mailer("campaign", "watch", "winter", "--json")
    assert outcome.document["campaign"]["state"] == "STATE_CANCELLED"
    assert "running" in outcome.err


async def test_a_campaign_is_found_by_name_on_any_page(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    for number in range(7):
        scheduler.add(f"{number:032x}", f"campaign {number}")
    outcome = await mailer("campaign", "show", "campaign 6", "--json")
    assert outcome.document["campaign"]["campaign_id"] == f"{6:032x}"


async def test_a_list_is_as_long_as_its_limit(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    for number in range(7):
        scheduler.add(f"{number:032x}", f"campaign {number}")
    outcome = await mailer("campaign", "list", "--limit", "5", "--json")
    assert len(outcome.document["campaigns"]) == 5
    assert "--limit 0 shows all" in outcome.err
    assert len((await mailer("campaign", "list", "--limit", "0", "--json")).document["campaigns"]) == 7


async def test_a_list_in_a_pipe_is_one_line_for_each(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    scheduler.add("a" * 32, "two\nlines")
    scheduler.add("b" * 32, "冬")
    header, first, second = (await mailer("campaign", "list")).out.splitlines()
    assert header.split()[:2] == ["name", "state"]
    assert first.startswith("two lines  draft")
    assert second.startswith("冬         draft")


async def test_two_campaigns_of_one_name_are_told_apart_by_id(
    mailer: CommandLine, scheduler: ScriptedScheduler
) -> None:
    scheduler.add("a" * 32, "winter")
    scheduler.add("b" * 32, "winter")
    outcome = await mailer("campaign", "show", "winter")
    assert outcome.status == 2
    assert f"{'a' * 32} (draft, created " in outcome.err
    assert (await mailer("campaign", "show", "bbbbb", "--json")).document["campaign"]["campaign_id"] == "b" * 32


async def test_an_unknown_name_is_not_found_and_the_closest_is_named(
    mailer: CommandLine, scheduler: ScriptedScheduler
) -> None:
    scheduler.add("a" * 32, "winter")
    outcome = await mailer("campaign", "show", "wintr")
    assert outcome.status == 3
    assert 'did you mean "winter"?' in outcome.err


async def test_the_wrong_state_has_its_own_status(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    scheduler.add("a" * 32, "winter")
    outcome = await mailer("campaign", "pause", "winter", "--json")
    assert outcome.status == 4
    assert outcome.document["error"]["metadata"] == {"state": "DRAFT"}


async def test_what_cannot_be_undone_is_not_done_unasked(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    scheduler.add("a" * 32, "winter", State.STATE_RUNNING)
    assert (await mailer("campaign", "cancel", "winter")).status == 2
    assert scheduler.campaigns["a" * 32].state == State.STATE_RUNNING
    assert (await mailer("campaign", "cancel", "winter", "--yes")).status == 0
    assert scheduler.campaigns["a" * 32].state == State.STATE_CANCELLED


async def test_an_empty_list_says_what_to_do_next(mailer: CommandLine) -> None:
    assert "mailer campaign create" in (await mailer("campaign", "list")).out
    assert (await mailer("campaign", "list", "--json")).document == {"campaigns": [], "next_page_token": ""}


async def test_what_a_service_says_cannot_move_the_cursor(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    scheduler.add("a" * 32, "win\x1b[2Jter [bold]")
    outcome = await mailer("campaign", "list")
    assert "\x1b" not in outcome.out
    assert "win\N{REPLACEMENT CHARACTER}[2Jter [bold]" in outcome.out


async def test_a_list_that_a_filter_left_empty_does_not_say_that_there_is_nothing(mailer: CommandLine) -> None:
    assert "mailer campaign create" in (await mailer("campaign", "list")).out
    filtered = await mailer("campaign", "list", "--state", "missed", "--state", "held")
    assert filtered.out == "No campaign is missed or held.\n"


async def test_a_time_in_a_zone_is_answered_there_and_in_utc(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    scheduler.add("a" * 32, "winter")
    when = ("--at", f"{NEXT_YEAR}-12-01 09:00", "--zone", "Europe/Berlin")
    outcome = await mailer("campaign", "schedule", "winter", *when)
    assert outcome.out == f"It goes out: {NEXT_YEAR}-12-01 09:00:00 CET ({NEXT_YEAR}-12-01 08:00:00 UTC)\n"


async def test_a_second_campaign_of_a_name_is_asked_about(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    scheduler.add("a" * 32, "winter", State.STATE_RUNNING)
    create = ("campaign", "create", "--name", "winter", "--template-id", "0" * 32)
    refused = await mailer(*create)
    assert refused.status == 2
    assert f"{'a' * 32} (running" in refused.err
    assert scheduler.created == []
    assert (await mailer(*create, "--yes")).status == 0
    assert (await mailer(*create, "--request-id", "again")).status == 0


@pytest.mark.parametrize(("lines", "why"), [("", "no line behind the first"), ("nobody\n", "line 2: no @")])
async def test_a_file_that_brings_nobody_is_a_failure(
    mailer: CommandLine, scheduler: ScriptedScheduler, tmp_path: Path, lines: str, why: str
) -> None:
    people = tmp_path / "people.csv"
    people.write_text(f"address\n{lines}")
    create = ("campaign", "create", "--name", "w", "--template-id", "0" * 32, "--recipients", str(people), "--now")
    outcome = await mailer(*create)
    assert outcome.status == 1
    assert why in outcome.err
    assert "again. The campaign is kept as a draft" in outcome.err
    assert "Send it" not in outcome.err
    assert scheduler.scheduled == []


async def test_a_column_that_differs_in_its_capitals_alone_is_named(
    mailer: CommandLine, scheduler: ScriptedScheduler, tmp_path: Path
) -> None:
    scheduler.add("a" * 32, "winter")
    scheduler.required = "name"
    people = tmp_path / "people.csv"
    people.write_text("Address,Name\nada@example.org,Ada\n")
    outcome = await mailer("campaign", "import", "winter", str(people))
    assert "add it as a column" in outcome.err
    assert 'the file has "Name", the template says "name"' in outcome.err


async def test_a_campaign_that_runs_already_is_said_to(mailer: CommandLine, scheduler: ScriptedScheduler) -> None:
    scheduler.add("a" * 32, "winter", State.STATE_RUNNING)
    outcome = await mailer("campaign", "resume", "winter")
    assert outcome.status == 4
    assert '"winter" is running already' in outcome.err


async def test_the_last_word_on_a_cancelled_campaign_waits_for_its_books(
    mailer: CommandLine, scheduler: ScriptedScheduler
) -> None:
    scheduler.add("a" * 32, "winter")
    scheduler.campaigns["a" * 32].latest_run.counts.pending_count = 7
    scheduler.streams = [[State.STATE_CANCELLED]]
    watching = asyncio.create_task(mailer("campaign", "watch", "winter"))
    while scheduler.streams:
        await asyncio.sleep(0)
    scheduler.campaigns["a" * 32].latest_run.counts.pending_count = 0
    scheduler.campaigns["a" * 32].latest_run.counts.cancelled_count = 7
    outcome = await watching
    assert "7 cancelled" in outcome.out
    assert "pending" not in outcome.out
