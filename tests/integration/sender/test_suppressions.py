"""The suppression list over a real channel."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from mailer.client import ErrorDetails, details_of
from mailer.v1 import sender_pb2
from tests.fakes.account_service import AccountService, account_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[AccountService]:
    async with account_service(tmp_path) as running:
        yield running


async def add(service: AccountService, *addresses: str, request_id: str = "r", reason: str = "asked") -> int:
    request = sender_pb2.AddSuppressionsRequest(request_id=request_id, addresses=addresses, reason=reason)
    return (await service.stub.AddSuppressions(request, timeout=5)).added_count


async def listed(service: AccountService) -> list[tuple[str, str]]:
    answer = await service.stub.ListSuppressions(sender_pb2.ListSuppressionsRequest(), timeout=5)
    assert all(one.create_time.seconds > 0 for one in answer.suppressions)
    return [(one.address, one.reason) for one in answer.suppressions]


async def refusal(service: AccountService, *addresses: str, request_id: str = "r") -> ErrorDetails:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await add(service, *addresses, request_id=request_id)
    return details_of(caught.value)


async def test_spellings_of_one_mailbox_are_one_entry_with_the_first_reason(service: AccountService) -> None:
    assert await add(service, "Zoe@Example.org", "zoe@example.ORG", "ada@exämple.org") == 2
    assert await add(service, "zoe@example.org", request_id="r2", reason="later") == 0
    assert await listed(service) == [("ada@xn--exmple-cua.org", "asked"), ("zoe@example.org", "asked")]


async def test_one_wrong_address_stops_them_all(service: AccountService) -> None:
    details = await refusal(service, "ok@example.org", "not an address", "a@b@c")
    assert details.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [wrong.field for wrong in details.violations] == ["addresses[1]", "addresses[2]"]
    assert await listed(service) == []


@pytest.mark.parametrize("count", [0, 1001])
async def test_one_to_a_thousand_at_a_time(service: AccountService, count: int) -> None:
    details = await refusal(service, *(f"u{number}@example.org" for number in range(count)))
    assert [wrong.field for wrong in details.violations] == ["addresses"]


async def test_the_same_call_adds_once_and_another_body_is_refused(service: AccountService) -> None:
    assert await add(service, "a@example.org") == 1
    assert await add(service, "a@example.org") == 1
    assert (await refusal(service, "b@example.org")).reason == "REQUEST_ID_REUSED"
    assert [wrong.field for wrong in (await refusal(service, "b@example.org", request_id="")).violations] == [
        "request_id"
    ]


async def test_an_address_is_removed_in_any_spelling_and_only_once(service: AccountService) -> None:
    await add(service, "zoe@example.org")
    request = sender_pb2.RemoveSuppressionRequest(address="ZOE@example.org")
    await service.stub.RemoveSuppression(request, timeout=5)
    assert await listed(service) == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.RemoveSuppression(request, timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.RemoveSuppression(sender_pb2.RemoveSuppressionRequest(address="x"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_list_comes_in_pages(service: AccountService) -> None:
    await add(service, *(f"u{number}@example.org" for number in range(5)))
    found, token = [], ""
    while True:
        request = sender_pb2.ListSuppressionsRequest(page_size=2, page_token=token)
        page = await service.stub.ListSuppressions(request, timeout=5)
        found.append(len(page.suppressions))
        token = page.next_page_token
        if not token:
            break
    assert found == [2, 2, 1]
