"""How deliveries and their attempts look in a terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType

from mailer.cli.output import Column, Output, state
from mailer.cli.words import enum_word, instant
from mailer.v1 import sender_pb2

NO_DELIVERY = "No message is like that. mailer campaign list shows what there is."


def delivery_state(delivery: sender_pb2.Delivery) -> str:
    """Return the word for where the delivery stands."""
    return enum_word(sender_pb2.DeliveryState.Name(delivery.state), "DELIVERY_STATE_")


def reply_text(reply: sender_pb2.SmtpReply) -> str:
    """Return what the server said, as in "550 5.1.1 no such user"."""
    return " ".join(part for part in (str(reply.code or ""), reply.enhanced_code, reply.text) if part)


def delivery_table(
    out: Output, deliveries: Iterable[sender_pb2.Delivery], *, empty: str = NO_DELIVERY
) -> RenderableType | str:
    """Return the list of deliveries."""
    columns = (
        Column("address"),
        Column("state", is_word=True),
        Column("why"),
        Column("retries", "right", optional=True),
        Column("next try", optional=True),
        Column("changed", optional=True),
        Column("id"),
    )
    rows = (
        (
            one.address,
            state(delivery_state(one)),
            reply_text(one.last_reply) or one.state_reason,
            str(one.retry_count),
            instant(one.next_attempt_time),
            instant(one.update_time),
            one.delivery_id,
        )
        for one in deliveries
    )
    return out.table(columns, rows, empty=empty)


def delivery_details(out: Output, delivery: sender_pb2.Delivery, attempts: Sequence[sender_pb2.Attempt]) -> Group:
    """Return one delivery and its attempts."""
    details = out.fields(
        [
            ("address", delivery.address),
            ("id", delivery.delivery_id),
            ("state", state(delivery_state(delivery))),
            ("why", delivery.state_reason),
            ("last reply", reply_text(delivery.last_reply)),
            ("duplicate", "possible: a copy may have arrived before" if delivery.possible_duplicate else ""),
            ("message id", delivery.message_id),
            ("campaign", delivery.campaign_id),
            ("run", delivery.run_id),
            ("account", delivery.account_id),
            ("retries", str(delivery.retry_count)),
            ("stored", instant(delivery.create_time)),
            ("changed", instant(delivery.update_time)),
            ("next try", instant(delivery.next_attempt_time)),
            ("given up", instant(delivery.expire_time)),
        ]
    )
    columns = (
        Column("began"),
        Column("outcome", is_word=True),
        Column("stage"),
        Column("what happened"),
        Column("account", optional=True),
    )
    rows = (
        (
            instant(one.start_time),
            state(enum_word(sender_pb2.Attempt.Outcome.Name(one.outcome), "OUTCOME_")),
            one.stage,
            reply_text(one.reply) or one.description,
            one.account_id,
        )
        for one in attempts
    )
    return Group(details, "", out.table(columns, rows, empty="There was no attempt yet."))
