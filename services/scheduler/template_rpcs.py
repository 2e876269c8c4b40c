"""The methods about templates."""

from dataclasses import replace
from uuid import uuid4

from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database
from mailer.errors import FieldViolation
from mailer.idempotency import request_key, run_once
from mailer.interceptor import Context
from mailer.pagination import Page, read_page
from mailer.requests import check_id, check_new_request_id, require_id
from mailer.v1 import scheduler_pb2, sender_pb2
from mailer.validation import Violations, updated_paths
from mailer.wire import to_timestamp
from services.scheduler import templates
from services.scheduler.campaign_message import leave_out_files
from services.scheduler.content import check_content, content_paths, merge
from services.scheduler.requests import check_name, refuse_output_only
from services.scheduler.tables import requests
from services.scheduler.templates import Template

MOST_NAME_CHARACTERS = 100

_OUTPUT_ONLY = ("template_id", "required_variables", "create_time", "update_time")


class TemplateRpcs:
    """CreateTemplate, GetTemplate, ListTemplates, UpdateTemplate, DeleteTemplate."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take what the methods need."""
        self._database = database
        self._clock = clock

    async def CreateTemplate(
        self, request: scheduler_pb2.CreateTemplateRequest, context: Context
    ) -> scheduler_pb2.CreateTemplateResponse:
        """Store a template after checking every part of it."""
        violations = Violations()
        check_new_request_id(request.request_id, violations)
        check_name(request.template.name, violations, field="template.name", most=MOST_NAME_CHARACTERS)
        refuse_output_only(request.template, _OUTPUT_ONLY, violations, prefix="template")
        checked = check_content(request.template.content, violations, field="template.content")
        violations.raise_if_any()
        assert checked is not None
        now = self._clock.now()
        template = Template(
            template_id=uuid4().hex,
            name=request.template.name,
            content=checked.serialized,
            required_variables=checked.required_variables,
            create_time=now,
            update_time=now,
        )

        def effect(connection: Connection) -> scheduler_pb2.CreateTemplateResponse:
            templates.create(connection, template)
            return scheduler_pb2.CreateTemplateResponse(template=to_template(template))

        return await self._database.write(
            run_once,
            requests,
            request_key("CreateTemplate", request, request.request_id),
            effect,
            response_type=scheduler_pb2.CreateTemplateResponse,
            now=now,
        )

    async def GetTemplate(
        self, request: scheduler_pb2.GetTemplateRequest, context: Context
    ) -> scheduler_pb2.GetTemplateResponse:
        """Return a template with its content."""
        template_id = require_id(request.template_id, field="template_id")
        template = await self._database.read(templates.existing, template_id)
        return scheduler_pb2.GetTemplateResponse(template=to_template(template))

    async def ListTemplates(
        self, request: scheduler_pb2.ListTemplatesRequest, context: Context
    ) -> scheduler_pb2.ListTemplatesResponse:
        """List templates by name, without what is in their attachments."""
        violations = Violations()
        page = read_page(request.page_size, request.page_token, violations, method="ListTemplates", key=(str, str))
        violations.raise_if_any()
        shown, token = await self._database.read(_list, page)
        return scheduler_pb2.ListTemplatesResponse(templates=shown, next_page_token=token)

    async def UpdateTemplate(
        self, request: scheduler_pb2.UpdateTemplateRequest, context: Context
    ) -> scheduler_pb2.UpdateTemplateResponse:
        """Change what the mask names; runs that have begun keep their content."""
        violations = Violations()
        check_id(request.template.template_id, violations, field="template.template_id")
        has_id = not violations
        paths = updated_paths(
            request.update_mask,
            violations,
            updatable=("name", *content_paths()),
            output_only=_OUTPUT_ONLY,
        )
        if "name" in paths:
            check_name(request.template.name, violations, field="template.name", most=MOST_NAME_CHARACTERS)
        if not has_id:
            violations.raise_if_any()
        changed = await self._database.write(self._update, request.template, paths, tuple(violations))
        return scheduler_pb2.UpdateTemplateResponse(template=to_template(changed))

    async def DeleteTemplate(
        self, request: scheduler_pb2.DeleteTemplateRequest, context: Context
    ) -> scheduler_pb2.DeleteTemplateResponse:
        """Remove a template that no unfinished campaign uses."""
        template_id = require_id(request.template_id, field="template_id")
        await self._database.write(templates.remove, template_id)
        return scheduler_pb2.DeleteTemplateResponse()

    def _update(
        self,
        connection: Connection,
        given: scheduler_pb2.Template,
        paths: frozenset[str],
        found: tuple[FieldViolation, ...],
    ) -> Template:
        """Store what the paths name, unless something is wrong with it or was `found` to be wrong before."""
        stored = templates.existing(connection, given.template_id)
        violations = Violations(found)
        content = None
        if paths - {"name"}:
            content = check_content(merge(stored.content, given.content, paths), violations, field="template.content")
        violations.raise_if_any()
        changed = replace(stored, update_time=self._clock.now())
        if "name" in paths:
            changed = replace(changed, name=given.name)
        if content is not None:
            changed = replace(changed, content=content.serialized, required_variables=content.required_variables)
        templates.replace(connection, changed)
        return changed


def to_template(template: Template) -> scheduler_pb2.Template:
    """Return a template for the wire."""
    return scheduler_pb2.Template(
        template_id=template.template_id,
        name=template.name,
        content=sender_pb2.MessageContent.FromString(template.content),
        required_variables=template.required_variables,
        create_time=to_timestamp(template.create_time),
        update_time=to_timestamp(template.update_time),
    )


def _list(connection: Connection, page: Page) -> tuple[list[scheduler_pb2.Template], str]:
    after = None if page.after is None else (page.after[0], page.after[1])
    rows = templates.page(connection, after, page.limit)
    return page.fill(rows, lambda row: (row.name, row.template_id), _to_listed)


def _to_listed(template: Template) -> scheduler_pb2.Template:
    message = to_template(template)
    leave_out_files(message.content)
    return message
