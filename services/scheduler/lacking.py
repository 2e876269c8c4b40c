"""Whether every recipient has what the templates need, before anything is scheduled."""

from collections.abc import Iterator

from google.protobuf.struct_pb2 import Struct
from sqlalchemy import Connection

from mailer.errors import FailedPrecondition
from mailer.message.variables import ALWAYS_THERE
from mailer.recipients import missing_variables, named
from services.scheduler import campaigns, recipients
from services.scheduler.campaign_states import Action
from services.scheduler.recipients import Recipient

# An error travels in a trailer of 8 KiB: it names some of what may be very many.
_NAMED = 5
_NAMED_VARIABLES = 10
_GROUP = 1000


def check_variables_of_all(connection: Connection, campaign_id: str) -> frozenset[str]:
    """Return the variables that every recipient has, at least those that the content needs.

    Recipients are read only when the content has changed since they were added. Raises NotFound, or
    FailedPrecondition naming the first recipients that lack something.
    """
    campaign = campaigns.allowed(connection, campaign_id, Action.SCHEDULE)
    required = frozenset(campaigns.source_of(connection, campaign).required_variables) - ALWAYS_THERE
    unsure = required - set(campaign.known_variables)
    if not unsure or not campaign.recipient_count:
        return required | set(campaign.known_variables)
    lacking = []
    for recipient in _all(connection, campaign_id):
        missing = missing_variables(Struct.FromString(recipient.variables), unsure)
        if missing:
            lacking.append(f"{recipient.address} lacks {named(missing)}")
            if len(lacking) == _NAMED:
                break
    if lacking:
        raise FailedPrecondition(
            f"Recipients lack variables that the content needs ({'; '.join(lacking)}): "
            "give the variables a default in the template, or make a campaign with complete recipients.",
            reason="MISSING_VARIABLES",
            metadata={
                "campaign_id": campaign_id,
                "state": campaign.state.upper(),
                "variables": ", ".join(sorted(unsure)[:_NAMED_VARIABLES]),
            },
        )
    return required | set(campaign.known_variables)


def _all(connection: Connection, campaign_id: str) -> Iterator[Recipient]:
    position = 0
    while found := recipients.read_after(connection, campaign_id, position, _GROUP):
        yield from found
        position = found[-1].position
