"""The methods about templates, good and bad."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from mailer.v1 import scheduler_pb2, sender_pb2
from tests.integration.scheduler.conftest import Scheduler, content, draft, new_request_id, refused

Template = scheduler_pb2.Template


async def create(scheduler: Scheduler, name: str = "Welcome", **changes: object) -> scheduler_pb2.Template:
    request = scheduler_pb2.CreateTemplateRequest(
        request_id=new_request_id(), template=Template(name=name, content=content(**changes))
    )
    return (await scheduler.stub.CreateTemplate(request, timeout=20)).template


async def get(scheduler: Scheduler, template_id: str) -> scheduler_pb2.Template:
    request = scheduler_pb2.GetTemplateRequest(template_id=template_id)
    return (await scheduler.stub.GetTemplate(request, timeout=20)).template


async def update(scheduler: Scheduler, template: scheduler_pb2.Template, *paths: str) -> scheduler_pb2.Template:
    request = scheduler_pb2.UpdateTemplateRequest(template=template, update_mask=FieldMask(paths=paths))
    return (await scheduler.stub.UpdateTemplate(request, timeout=20)).template


async def test_a_template_is_returned_as_it_was_stored(scheduler: Scheduler) -> None:
    created = await create(scheduler, html="<p>{{ name }}, {{ city }}</p>")
    assert created.required_variables == ["city", "name"]
    assert await get(scheduler, created.template_id) == created


async def test_a_repeated_create_makes_one_template(scheduler: Scheduler) -> None:
    request = scheduler_pb2.CreateTemplateRequest(
        request_id=new_request_id(), template=Template(name="Welcome", content=content())
    )
    first = await scheduler.stub.CreateTemplate(request, timeout=20)
    assert await scheduler.stub.CreateTemplate(request, timeout=20) == first
    request.template.name = "Another"
    async with refused(grpc.StatusCode.ALREADY_EXISTS, reason="REQUEST_ID_REUSED"):
        await scheduler.stub.CreateTemplate(request, timeout=20)


async def test_two_templates_of_one_name_are_refused(scheduler: Scheduler) -> None:
    await create(scheduler, "Welcome")
    other = await create(scheduler, "Other")
    async with refused(grpc.StatusCode.ALREADY_EXISTS, reason="TEMPLATE_NAME_TAKEN"):
        await create(scheduler, "Welcome")
    async with refused(grpc.StatusCode.ALREADY_EXISTS, reason="TEMPLATE_NAME_TAKEN"):
        await update(scheduler, Template(template_id=other.template_id, name="Welcome"), "name")


async def test_everything_wrong_with_a_template_is_named_at_once(scheduler: Scheduler) -> None:
    bad = content(
        from_address=sender_pb2.Mailbox(address="a@x.org, b@x.org", display_name="A\r\nBcc: evil@x.org"),
        subject="Hello {{ name",
        text="{{ ''.__class__.__mro__ }}",
        headers=[sender_pb2.Header(name="Bcc", value="x@x.org")],
    )
    template = Template(template_id="mine", name=" ", content=bad, create_time=Timestamp(seconds=1))
    async with refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        fields={
            "request_id",
            "template.name",
            "template.template_id",
            "template.create_time",
            "template.content.from_address.address",
            "template.content.from_address.display_name",
            "template.content.subject",
            "template.content.text",
            "template.content.headers[0].name",
        },
    ):
        await scheduler.stub.CreateTemplate(scheduler_pb2.CreateTemplateRequest(template=template), timeout=20)
    listed = await scheduler.stub.ListTemplates(scheduler_pb2.ListTemplatesRequest(), timeout=20)
    assert not listed.templates


async def test_a_mask_changes_what_it_names_and_nothing_else(scheduler: Scheduler) -> None:
    created = await create(scheduler, cc=[sender_pb2.Mailbox(address="boss@example.org")])
    changed = await update(
        scheduler,
        Template(
            template_id=created.template_id, name="not named", content=content(subject="{{ greeting }}", text="x")
        ),
        "content.subject",
        "content.cc",
    )
    assert changed.name == "Welcome"
    assert changed.content.subject == "{{ greeting }}"
    assert changed.content.text == created.content.text
    assert not changed.content.cc
    assert changed.required_variables == ["greeting", "name"]
    assert await get(scheduler, created.template_id) == changed


@pytest.mark.parametrize(
    "path", ["", "create_time", "template_id", "content.nonsense", "nonsense", "required_variables"]
)
async def test_a_mask_with_anything_else_is_refused(scheduler: Scheduler, path: str) -> None:
    created = await create(scheduler)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"update_mask"}):
        await update(scheduler, Template(template_id=created.template_id), *([path] if path else []))


async def test_a_change_that_breaks_the_template_changes_nothing(scheduler: Scheduler) -> None:
    created = await create(scheduler)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"template.content.text"}):
        await update(
            scheduler, Template(template_id=created.template_id, content=content(text="{% if %}")), "content.text"
        )
    assert await get(scheduler, created.template_id) == created


async def test_a_template_in_use_cannot_be_deleted(scheduler: Scheduler) -> None:
    created = await create(scheduler)
    request = scheduler_pb2.DeleteTemplateRequest(template_id=created.template_id)
    campaign_id = await draft(scheduler.stub, 0, content=None, template_id=created.template_id)
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="TEMPLATE_IN_USE"):
        await scheduler.stub.DeleteTemplate(request, timeout=20)
    await scheduler.stub.CancelCampaign(scheduler_pb2.CancelCampaignRequest(campaign_id=campaign_id), timeout=20)
    await scheduler.stub.DeleteTemplate(request, timeout=20)
    async with refused(grpc.StatusCode.NOT_FOUND):
        await get(scheduler, created.template_id)


async def test_what_does_not_exist_is_not_found(scheduler: Scheduler) -> None:
    async with refused(grpc.StatusCode.NOT_FOUND):
        await get(scheduler, "0" * 32)
    async with refused(grpc.StatusCode.NOT_FOUND):
        await update(scheduler, Template(template_id="0" * 32, name="x"), "name")
    async with refused(grpc.StatusCode.NOT_FOUND):
        await scheduler.stub.DeleteTemplate(scheduler_pb2.DeleteTemplateRequest(template_id="0" * 32), timeout=20)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"template_id"}):
        await get(scheduler, "../../etc/passwd")


async def test_templates_are_listed_by_name_in_pages_without_their_files(scheduler: Scheduler) -> None:
    attachment = sender_pb2.Attachment(filename="a.txt", content=b"x" * 1000)
    for name in ("Cherry", "apple", "Banana"):
        await create(scheduler, name, attachments=[attachment])
    names, token = [], ""
    for _ in range(3):
        page = await scheduler.stub.ListTemplates(
            scheduler_pb2.ListTemplatesRequest(page_size=1, page_token=token), timeout=5
        )
        names += [one.name for one in page.templates]
        assert page.templates[0].content.attachments[0].filename == "a.txt"
        assert not page.templates[0].content.attachments[0].content
        token = page.next_page_token
    assert names == ["Banana", "Cherry", "apple"]
    assert token == ""
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"page_token"}):
        await scheduler.stub.ListTemplates(scheduler_pb2.ListTemplatesRequest(page_token="nonsense"), timeout=20)


async def test_a_page_ends_before_it_outgrows_a_message(scheduler: Scheduler) -> None:
    for number in range(16):
        await create(scheduler, f"Long {number:02}", text="{{ name }} " + "x" * 250_000)
    seen, token = [], ""
    while True:
        page = await scheduler.stub.ListTemplates(
            scheduler_pb2.ListTemplatesRequest(page_size=1000, page_token=token), timeout=10
        )
        seen += [one.name for one in page.templates]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"Long {number:02}" for number in range(16)]


async def test_unknown_fields_are_refused(scheduler: Scheduler) -> None:
    call: Any = scheduler.channel.unary_unary("/mailer.v1.Scheduler/GetTemplate")
    known = scheduler_pb2.GetTemplateRequest(template_id="0" * 32).SerializeToString()
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, reason="UNKNOWN_FIELDS"):
        await call(known + b"\xf2\x07\x01x", timeout=20)
