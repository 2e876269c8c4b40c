"""What the answers to MAIL, RCPT and DATA say together. Pure."""

from dataclasses import dataclass

from services.sender.replies import Incident, Reply, Stage
from services.sender.smtp.envelope import Envelope
from services.sender.smtp.outcomes import RefusedRecipient
from services.sender.smtp.wire import GO_ON

CLOSING = 421
_BAD_SEQUENCE = 503


@dataclass(slots=True)
class Answers:
    """The answers so far, in the order of the commands. What was not asked any more is missing."""

    mail: Reply
    recipients: list[Reply]
    data: Reply | None = None

    @property
    def are_welcome(self) -> bool:
        """Say whether everything was answered with yes: what happens nearly always, looked at first."""
        if self.data is None or self.data.code != GO_ON or not 200 <= self.mail.code <= 299:
            return False
        return all(200 <= reply.code <= 299 for reply in self.recipients)

    @property
    def refusal(self) -> Incident | None:
        """Return what keeps the message from being sent; None when its body may follow.

        A server that refuses a command and then goes on as if it had not is answering something else than what we
        asked: then the answer that cannot be right decides, and nothing is held against sender or recipient.
        """
        closing = self._closing
        if closing:
            return closing
        refusal = self._envelope_refusal
        if self.data is None:
            return refusal
        if refusal:
            is_nonsense = not _is_no(self.data) and self.data.code != GO_ON
            return Incident(Stage.DATA, self.data) if is_nonsense or self._is_contradiction else refusal
        return None if self.data.code == GO_ON else Incident(Stage.DATA, self.data)

    @property
    def is_orderly(self) -> bool:
        """Say whether the connection can be used after the refusal.

        Not after 354: only a dot would end that, and it might send an empty message to those that were not refused.
        """
        asked = [self.mail, *self.recipients] + ([self.data] if self.data else [])
        last = asked[-1]
        return (
            _is_no(last)
            and all(reply.is_positive or _is_no(reply) for reply in asked)
            and (last.code != _BAD_SEQUENCE or (self._envelope_refusal is not None and last is self.data))
        )

    @property
    def has_transaction(self) -> bool:
        """Say whether the server still has an envelope that RSET must clear."""
        return self.mail.is_positive

    def refused(self, envelope: Envelope) -> tuple[RefusedRecipient, ...]:
        """Return the recipients that the server did not take."""
        return tuple(
            RefusedRecipient(index, address, reply)
            for index, (address, reply) in enumerate(zip(envelope.recipients, self.recipients, strict=False))
            if not reply.is_positive
        )

    @property
    def _envelope_refusal(self) -> Incident | None:
        if not self.mail.is_positive:
            return Incident(Stage.MAIL, self.mail)
        if self.recipients and not self.recipients[0].is_positive:
            return Incident(Stage.RCPT, self.recipients[0])
        return None

    @property
    def _is_contradiction(self) -> bool:
        """Say whether a recipient was welcome although the sender was not."""
        return not self.mail.is_positive and any(reply.is_positive for reply in self.recipients)

    @property
    def _closing(self) -> Incident | None:
        stages = [Stage.MAIL, *[Stage.RCPT] * len(self.recipients), Stage.DATA]
        replies = [self.mail, *self.recipients] + ([self.data] if self.data else [])
        for stage, reply in zip(stages, replies, strict=False):
            if reply.code == CLOSING:
                return Incident(stage, reply)
        return None


def _is_no(reply: Reply) -> bool:
    return 400 <= reply.code <= 599 and reply.code != CLOSING
