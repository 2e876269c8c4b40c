"""The examples, followed to the letter against real processes: what a newcomer types has to work."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from demo.system import System
from mailer.clock import SystemClock
from mailer.inbox import Event, Inbox, read_journal
from mailer.v1 import sender_pb2
from tests.cookbook import Command, commands, documents

ROOT = Path(__file__).parents[2]
GRPCURL = shutil.which("grpcurl", path=f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")

# Where the cookbook's words in capitals come from: the method, and the way into its answer.
NAMED: dict[str, tuple[str, list[str | int]]] = {
    "CreateAccount": ("ACCOUNT_ID", ["account", "account_id"]),
    "CreateCampaign": ("CAMPAIGN_ID", ["campaign", "campaign_id"]),
    "ListDeliveries": ("DELIVERY_ID", ["deliveries", 0, "delivery_id"]),
    "SendBatch": ("RUN_ID", ["run_id"]),
    "Create": ("SNAPSHOT_ID", ["snapshot", "snapshot_id"]),
}
# Shown for a campaign that runs, a delivery that is unknown, and an error: here they are refused.
REFUSED = {"PauseCampaign", "ResumeCampaign", "CancelCampaign", "ResolveUnknown"}


@pytest.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[Inbox]:
    inbox = Inbox(tmp_path / "inbox", SystemClock())
    inbox.add("cookbook")
    async with inbox:
        yield inbox


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path / "data") as system:
        yield system


async def run(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    return process.returncode or 0, out.decode(), errors.decode()


def arrived(inbox: Inbox) -> list[str]:
    return [
        recipient
        for entry in read_journal(inbox.directory)
        if entry.event is Event.ACCEPTED
        for recipient in entry.recipients
    ]


class Reader:
    """Types the cookbook's commands, with this system's ports and the ids of the answers before."""

    def __init__(self, system: System, inbox: Inbox) -> None:
        assert GRPCURL is not None
        self._grpcurl = GRPCURL
        self._words = {
            "127.0.0.1:50051": system.address("scheduler"),
            "127.0.0.1:50052": system.address("sender"),
            "127.0.0.1:50053": system.address("backup"),
            '"port": 1025': f'"port": {inbox.listener("cookbook").port}',
        }

    async def type(self, command: Command) -> tuple[int, str, str]:
        status, out, errors = await run(self._grpcurl, *(self._filled_in(word) for word in command.words[1:]))
        word, path = NAMED.get(command.method, ("", []))
        if word and word not in self._words:
            value: Any = documents(out)[0]
            for step in path:
                value = value[step]
            self._words[word] = value
        return status, out, errors

    def _filled_in(self, text: str) -> str:
        for word, value in self._words.items():
            text = text.replace(word, value)
        return text


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed: .ci/run installs it where go is there")
async def test_the_grpcurl_cookbook_works_from_the_first_command_to_the_last(system: System, inbox: Inbox) -> None:
    reader = Reader(system, inbox)
    *steps, mistake = commands()
    for step in steps:
        status, _, errors = await reader.type(step)
        assert status == 0 or step.method in REFUSED, f"{step}: {errors}"
    status, _, errors = await reader.type(mistake)
    assert status != 0
    assert all(field in errors for field in ("request_id", "campaign.name"))
    assert set(arrived(inbox)) == {"ada@post.example", "zoe@xn--bcher-kva.example"}


async def test_the_python_client_sends_its_messages(system: System, inbox: Inbox) -> None:
    client = (sys.executable, "examples/python_client.py", system.address("sender"))
    status, out, _ = await run(*client)
    assert (status, "no account" in out) == (1, True)
    create = next(command for command in commands() if command.method == "CreateAccount")
    (request,) = create.requests
    request["account"]["port"] = inbox.listener("cookbook").port
    await system.sender.CreateAccount(ParseDict(request, sender_pb2.CreateAccountRequest()), timeout=5)
    status, out, errors = await run(*client)
    assert (status, errors) == (0, ""), out
    assert out.endswith("sent 2 of 2\n")
    assert sorted(arrived(inbox)) == ["ada@post.example", "zoe@xn--bcher-kva.example"]
