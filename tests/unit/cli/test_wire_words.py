"""What the contract calls a field or a call, in words of the command line."""

import re

import pytest
import typer

from mailer.cli.choices import Choices
from mailer.cli.root import COMMANDS, app
from mailer.cli.wire_words import _OPTIONS, in_words, option_of
from mailer.clock import SystemClock
from mailer.v1 import backup_pb2, scheduler_pb2, sender_pb2


@pytest.mark.parametrize(
    ("field", "option"),
    [
        ("template.content.from_address.address", "--from"),
        ("campaign.content.headers[0].name", "--header"),
        ("campaign.name", "--name"),
        ("account.caps.per_hour_count", "--per-hour"),
        ("account.retry_policy.delays[1]", "--retry-delay"),
        ("settings.retention_policy.keep_daily_count", "--keep-daily"),
        ("settings.backup_retention", "--retention"),
        ("page_token", "page_token"),
    ],
)
def test_a_field_is_called_by_the_option_that_fills_it(field: str, option: str) -> None:
    assert option_of(field) == option


def test_calls_and_values_are_commands_and_options() -> None:
    assert in_words("use TLS_MODE_TLS or TLS_MODE_STARTTLS") == "use --tls tls or --tls starttls"
    assert in_words("take ids from ListDeliveries") == "take ids from mailer deliveries"
    assert in_words("say when with ScheduleCampaign") == "say when with mailer campaign schedule"
    assert in_words("ListDeliveriesMore") == "ListDeliveriesMore"


def test_every_field_and_every_option_is_there() -> None:
    fields = {
        field.name
        for module in (backup_pb2, scheduler_pb2, sender_pb2)
        for message in module.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    }
    assert set(_OPTIONS) - fields == set()
    assert {option for option in _OPTIONS.values() if re.match("--", option)} - set(options()) == set()


def options() -> list[str]:
    root = typer.main.get_command(app)
    context = root.make_context("mailer", ["up"], obj=Choices(SystemClock()))
    found = []
    for name in COMMANDS:
        _, command, _ = root.resolve_command(context, [name])  # type: ignore[attr-defined]
        for one in (command, *getattr(command, "commands", {}).values()):
            found += [text for option in one.params for text in option.opts]
    return found
