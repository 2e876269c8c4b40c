"""docs/cli.md against the command: every command has an example, and every example is a command line that parses."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mailer.cli.__main__ import interpret
from mailer.cli.choices import Choices
from mailer.cli.root import COMMANDS, app
from mailer.clock import SystemClock

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"\| `mailer ([^`]+)` \|", PAGE)


def parsed(line: str) -> tuple[str, Any]:
    """Return the name of the command that the line calls, and its function; the line is parsed but not run."""
    command: Any = typer.main.get_command(app)
    arguments, path = shlex.split(line), []
    context = command.make_context("mailer", arguments, obj=Choices(SystemClock()))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        path.append(name)
        context = command.make_context(name, rest, parent=context)
    return " ".join(path), command.callback


def all_commands() -> Iterator[str]:
    """Yield the names of all commands, as in "account add"."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("mailer", ["up"], obj=Choices(SystemClock()))
    for name in COMMANDS:
        _, command, _ = root.resolve_command(context, [name])
        children = getattr(command, "commands", None)
        yield from (f"{name} {child}" for child in children) if children else (name,)


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_is_a_command_line(line: str) -> None:
    assert parsed(line)[1] is not None


def test_every_command_has_an_example() -> None:
    assert set(all_commands()) - {parsed(line)[0] for line in EXAMPLES} == set()


@pytest.mark.parametrize("name", list(all_commands()))
def test_every_command_explains_itself_with_an_example_and_knows_json(name: str) -> None:
    root: Any = typer.main.get_command(app)
    command, context = root, root.make_context("mailer", name.split(), obj=Choices(SystemClock()))
    for word in name.split():
        _, command, _ = command.resolve_command(context, [word])
    assert "Example: mailer " + name in " ".join(command.help.split())
    assert any("--json" in option.opts for option in command.params)


@pytest.mark.parametrize("name", ["deliveries", "backup", "account add"])
def test_a_help_page_shows_no_value_for_a_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    interpret([*name.split(), "--help"], Choices(SystemClock()))
    page = capsys.readouterr().out
    assert "--help" in page
    assert "<bool>" not in page
    assert "<list[" not in page


def test_the_exit_statuses_of_the_page_are_those_of_the_code() -> None:
    from mailer.cli.exit_code import ExitCode

    assert {int(status) for status in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == {int(one) for one in ExitCode}
