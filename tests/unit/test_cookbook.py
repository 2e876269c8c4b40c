"""examples/grpcurl.md against the contract: every command names a method and a request that exist."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from mailer.v1 import backup_pb2, scheduler_pb2, sender_pb2

COOKBOOK = Path(__file__).parents[2] / "examples" / "grpcurl.md"

SERVICES: dict[str, ServiceDescriptor] = {
    "50051": scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"],
    "50052": sender_pb2.DESCRIPTOR.services_by_name["Sender"],
    "50053": backup_pb2.DESCRIPTOR.services_by_name["Backup"],
}


@dataclass(frozen=True)
class Call:
    """One command that calls a method of ours."""

    port: str
    service: str
    method: str
    data: str

    def __str__(self) -> str:
        return self.method


def calls() -> list[Call]:
    """Return the calls of the cookbook in their order."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", COOKBOOK.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line)
            if words[0] == "grpcurl" and "mailer.v1." in words[-1] and "/" in words[-1]:
                service, method = words[-1].split("/")
                data = words[words.index("-d") + 1] if "-d" in words else "{}"
                found.append(Call(words[-2].rpartition(":")[2], service, method, data))
    return found


def documents(data: str) -> list[object]:
    """Return the JSON values that stand one after the other in the text."""
    decoder, values = json.JSONDecoder(), []
    while data := data.strip():
        value, end = decoder.raw_decode(data)
        values.append(value)
        data = data[end:]
    return values


@pytest.mark.parametrize("call", calls(), ids=str)
def test_a_command_is_one_that_the_contract_knows(call: Call) -> None:
    service = SERVICES[call.port]
    assert call.service == service.full_name
    method: MethodDescriptor = service.methods_by_name[call.method]
    requests = documents(call.data)
    for request in requests:
        assert isinstance(request, dict)
        ParseDict(request, GetMessageClass(method.input_type)())
    assert method.client_streaming or len(requests) == 1


def test_the_cookbook_calls_all_three_services() -> None:
    assert {call.port for call in calls()} == SERVICES.keys()
