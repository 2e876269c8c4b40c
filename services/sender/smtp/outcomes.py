"""What a transaction can come to: values, so that nothing is forgotten where they are matched."""

from dataclasses import dataclass

from services.sender.replies import Incident, Reply


@dataclass(frozen=True, slots=True)
class RefusedRecipient:
    """A recipient the server did not take, by its place in the envelope."""

    index: int
    address: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class ReadyForDot:
    """The server has the whole message and waits for the final dot. Not accepted yet: `finish` or `close`."""

    refused: tuple[RefusedRecipient, ...] = ()
    """Further recipients that will not get it."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took the message."""

    incident: Incident
    refused: tuple[RefusedRecipient, ...] = ()
    """Further recipients that do not get it."""


@dataclass(frozen=True, slots=True)
class NotAccepted:
    """The server certainly did not take the message: it said no, or the dot was never written."""

    incident: Incident
    refused: tuple[RefusedRecipient, ...] = ()


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The server may have taken the message: nothing clear came back."""

    incident: Incident
    refused: tuple[RefusedRecipient, ...] = ()


Outcome = Accepted | NotAccepted | Uncertain
