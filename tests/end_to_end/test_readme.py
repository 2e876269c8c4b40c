"""The README's first campaign, typed in to the letter."""

import re

import pytest

from demo.system import System
from mailer.inbox import Inbox
from tests.end_to_end.commands import HAS_GRPCURL, NO_GRPCURL, ROOT, addressed, arrived, shell


def lines(program: str) -> list[str]:
    """Return the commands of "Your first campaign" that call the program, each as one text."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your first campaign")[1].split("\n## ")[0]
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))
    # A command ends where the next one begins: requests run over several lines.
    return [command for command in re.split(r"\n(?=\S)", blocks) if command.startswith(f"{program} ")]


async def test_a_first_campaign_goes_out_by_the_command_line(system: System, inbox: Inbox) -> None:
    for line in lines("mailer"):
        finished = await shell(addressed(line, system, inbox), system)
        assert finished.status == 0, f"{line}: {finished.errors}{finished.out}"
    received = arrived(inbox)
    assert len(received) == len(set(received)) == 500


@pytest.mark.skipif(not HAS_GRPCURL, reason=NO_GRPCURL)
async def test_a_first_message_goes_out_by_grpcurl(system: System, inbox: Inbox) -> None:
    # Who reads on has added an account by the command line before.
    await shell(addressed(lines("mailer")[0], system, inbox), system)
    answers = [await shell(addressed(line, system, inbox), system) for line in lines("grpcurl")]
    assert [answer.errors for answer in answers] == [""] * len(answers)
    assert "ada@post.example" in answers[-1].out
