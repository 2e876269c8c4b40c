"""What goes into one SendBatch: the same recipients in the same bytes, however often it is repeated."""

from collections.abc import Sequence

from mailer.v1 import sender_pb2
from services.scheduler.recipients import Recipient
from services.scheduler.runs import Run

# Field tags and lengths around an address, a name and variables.
_BYTES_AROUND = 16


def cut(found: Sequence[Recipient], *, byte_limit: int) -> Sequence[Recipient]:
    """Return as many of the first recipients as fit, at least one."""
    size = 0
    for count, recipient in enumerate(found):
        size += weight(recipient)
        if size > byte_limit and count:
            return found[:count]
    return found


def weight(recipient: Recipient) -> int:
    """Return how many bytes a recipient takes in a batch, rather too many than too few."""
    texts = len(recipient.address.encode()) + len(recipient.display_name.encode())
    return texts + len(recipient.variables) + _BYTES_AROUND


def request_for(
    run: Run, content: sender_pb2.MessageContent, batch: Sequence[Recipient]
) -> sender_pb2.SendBatchRequest:
    """Return the request; its id follows from where the batch begins."""
    request = sender_pb2.SendBatchRequest(
        request_id=f"{run.run_id}:{run.cursor}",
        run_id=run.run_id,
        campaign_id=run.campaign_id,
        content=content,
        options=sender_pb2.DeliveryOptions.FromString(run.options),
    )
    for recipient in batch:
        added = request.recipients.add(address=recipient.address, display_name=recipient.display_name)
        added.variables.ParseFromString(recipient.variables)
    return request
