"""examples/grpcurl.md against the contract: every command names a method and a request that exist."""

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from mailer.v1 import backup_pb2, scheduler_pb2, sender_pb2
from tests.cookbook import Command, commands

SERVICES: dict[str, ServiceDescriptor] = {
    "50051": scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"],
    "50052": sender_pb2.DESCRIPTOR.services_by_name["Sender"],
    "50053": backup_pb2.DESCRIPTOR.services_by_name["Backup"],
}


@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_is_one_that_the_contract_knows(command: Command) -> None:
    service = SERVICES[command.port]
    assert command.service == service.full_name
    method = service.methods_by_name[command.method]
    for request in command.requests:
        if "update_mask" in request:
            # grpcurl takes a mask as any other message; the JSON form of the others is one text.
            request["update_mask"] = FieldMask(paths=request["update_mask"]["paths"]).ToJsonString()
        ParseDict(request, GetMessageClass(method.input_type)())
    assert method.client_streaming or len(command.requests) == 1


def test_the_cookbook_calls_all_three_services() -> None:
    assert {command.port for command in commands()} == SERVICES.keys()
