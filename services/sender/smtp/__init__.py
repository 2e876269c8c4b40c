"""SMTP: connections to the accounts' servers, and the conversation on them, stage by stage."""

from services.sender.smtp.connect import ConnectFailed, Connector
from services.sender.smtp.conversation import Conversation
from services.sender.smtp.endpoint import Endpoint, Timeouts
from services.sender.smtp.envelope import Envelope, dot_stuffed
from services.sender.smtp.extensions import Extensions
from services.sender.smtp.outcomes import (
    Accepted,
    NotAccepted,
    Outcome,
    ReadyForDot,
    RefusedRecipient,
    Uncertain,
)

__all__ = [
    "Accepted",
    "ConnectFailed",
    "Connector",
    "Conversation",
    "Endpoint",
    "Envelope",
    "Extensions",
    "NotAccepted",
    "Outcome",
    "ReadyForDot",
    "RefusedRecipient",
    "Timeouts",
    "Uncertain",
    "dot_stuffed",
]
