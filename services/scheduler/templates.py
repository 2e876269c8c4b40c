"""Templates in SQL."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, tuple_, update

from mailer.errors import AlreadyExists, FailedPrecondition, NotFound
from services.scheduler.campaign_states import OVER
from services.scheduler.tables import campaigns, templates


@dataclass(frozen=True, slots=True)
class Template:
    """Content under a name."""

    template_id: str
    name: str
    content: bytes
    """Serialized MessageContent."""
    required_variables: tuple[str, ...]
    create_time: datetime
    update_time: datetime


def existing(connection: Connection, template_id: str) -> Template:
    """Return the template. Raises NotFound."""
    row = connection.execute(select(templates).where(templates.c.template_id == template_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no template {template_id}.", metadata={"template_id": template_id})
    return _template(row)


def page(connection: Connection, after: tuple[str, str] | None, limit: int) -> Iterator[Template]:
    """Return templates by name, then by id."""
    query = select(templates).order_by(templates.c.name, templates.c.template_id).limit(limit)
    if after is not None:
        query = query.where(tuple_(templates.c.name, templates.c.template_id) > tuple_(*after))
    return map(_template, connection.execute(query))


def required_of(connection: Connection, template_id: str) -> tuple[str, ...]:
    """Return the variables that the template needs; none when it is gone."""
    query = select(templates.c.required_variables).where(templates.c.template_id == template_id)
    return load_names(connection.execute(query).scalar_one_or_none() or "[]")


def create(connection: Connection, template: Template) -> None:
    """Store a new template. Raises AlreadyExists when the name is taken."""
    _refuse_taken(connection, template)
    connection.execute(insert(templates).values(_values(template)))


def replace(connection: Connection, template: Template) -> None:
    """Store a changed template. Raises AlreadyExists when the name is taken."""
    _refuse_taken(connection, template)
    connection.execute(
        update(templates).where(templates.c.template_id == template.template_id).values(_values(template))
    )


def remove(connection: Connection, template_id: str) -> None:
    """Remove a template. Raises NotFound, or FailedPrecondition while an unfinished campaign uses it."""
    template = existing(connection, template_id)
    user = connection.execute(
        select(campaigns.c.campaign_id, campaigns.c.name, campaigns.c.state)
        .where(campaigns.c.template_id == template_id, campaigns.c.state.not_in(list(OVER)))
        .limit(1)
    ).one_or_none()
    if user is not None:
        raise FailedPrecondition(
            f'The template "{template.name}" is used by the campaign "{user.name}", which is {user.state}: '
            "give that campaign other content, cancel it, or wait until it is finished.",
            reason="TEMPLATE_IN_USE",
            metadata={"template_id": template_id, "campaign_id": user.campaign_id, "state": user.state},
        )
    connection.execute(delete(templates).where(templates.c.template_id == template_id))


def dump_names(names: Iterable[str]) -> str:
    """Return names of variables as they are stored."""
    return json.dumps(sorted(names), ensure_ascii=False)


def load_names(stored: str) -> tuple[str, ...]:
    """Return names of variables as they were stored."""
    return tuple(json.loads(stored))


def _refuse_taken(connection: Connection, template: Template) -> None:
    taken = connection.execute(
        select(templates.c.template_id).where(
            templates.c.name == template.name, templates.c.template_id != template.template_id
        )
    ).scalar_one_or_none()
    if taken is not None:
        raise AlreadyExists(
            f'There is a template named "{template.name}" already: choose another name, or change that one.',
            reason="TEMPLATE_NAME_TAKEN",
            metadata={"template_id": taken, "name": template.name},
        )


def _values(template: Template) -> dict[str, Any]:
    return {
        "template_id": template.template_id,
        "name": template.name,
        "content": template.content,
        "required_variables": dump_names(template.required_variables),
        "create_time": template.create_time,
        "update_time": template.update_time,
    }


def _template(row: Row[Any]) -> Template:
    return Template(
        template_id=row.template_id,
        name=row.name,
        content=bytes(row.content),
        required_variables=load_names(row.required_variables),
        create_time=row.create_time,
        update_time=row.update_time,
    )
