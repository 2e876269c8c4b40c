"""The examples, followed to the letter against real processes: what a newcomer types has to work."""

import shlex
import sys
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from demo.system import System
from mailer.inbox import Inbox
from mailer.v1 import sender_pb2
from tests.cookbook import Command, commands, documents
from tests.end_to_end.commands import HAS_GRPCURL, NO_GRPCURL, Finished, addressed, arrived, shell

# Where the cookbook's words in capitals come from: the method, and the way into its answer.
NAMED: dict[str, tuple[str, list[str | int]]] = {
    "CreateAccount": ("ACCOUNT_ID", ["account", "account_id"]),
    "CreateCampaign": ("CAMPAIGN_ID", ["campaign", "campaign_id"]),
    "ListDeliveries": ("DELIVERY_ID", ["deliveries", 0, "delivery_id"]),
    "SendBatch": ("RUN_ID", ["run_id"]),
    "Create": ("SNAPSHOT_ID", ["snapshot", "snapshot_id"]),
}
# Shown for a campaign that runs and a delivery that is unknown: here they are refused.
REFUSED = {"PauseCampaign", "ResumeCampaign", "CancelCampaign", "ResolveUnknown"}


class Reader:
    """Types the cookbook's commands, with this system's ports and the ids of the answers before."""

    def __init__(self, system: System, inbox: Inbox) -> None:
        self._system = system
        self._inbox = inbox
        self._ids: dict[str, str] = {}

    async def type(self, command: Command) -> Finished:
        line = addressed(shlex.join(command.words), self._system, self._inbox)
        for known, made in self._ids.items():
            line = line.replace(f'"{known}"', f'"{made}"')
        finished = await shell(line, self._system)
        word, path = NAMED.get(command.method, ("", []))
        if word and word not in self._ids:
            value: Any = documents(finished.out)[0]
            for step in path:
                value = value[step]
            self._ids[word] = value
        return finished


@pytest.mark.skipif(not HAS_GRPCURL, reason=NO_GRPCURL)
async def test_the_grpcurl_cookbook_works_from_the_first_command_to_the_last(system: System, inbox: Inbox) -> None:
    reader = Reader(system, inbox)
    *steps, mistake = commands()
    for step in steps:
        finished = await reader.type(step)
        assert finished.status == 0 or step.method in REFUSED, f"{step}: {finished.errors}"
    finished = await reader.type(mistake)
    assert finished.status != 0
    assert all(field in finished.errors for field in ("request_id", "campaign.name"))
    assert set(arrived(inbox)) == {"ada@post.example", "zoe@xn--bcher-kva.example"}


async def test_the_python_client_sends_its_messages(system: System, inbox: Inbox) -> None:
    client = shlex.join([sys.executable, "examples/python_client.py", system.address("sender")])
    without_account = await shell(client, system)
    assert without_account.status == 1
    assert "no account" in without_account.out
    (request,) = next(command for command in commands() if command.method == "CreateAccount").requests
    request["account"]["port"] = inbox.listener("inbox").port
    await system.sender.CreateAccount(ParseDict(request, sender_pb2.CreateAccountRequest()), timeout=5)
    finished = await shell(client, system)
    assert (finished.status, finished.errors) == (0, ""), finished.out
    assert finished.out.endswith("sent 2 of 2\n")
    assert sorted(arrived(inbox)) == ["ada@post.example", "zoe@xn--bcher-kva.example"]
