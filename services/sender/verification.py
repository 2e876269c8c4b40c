"""VerifyAccount: goes as far as a delivery does before its first message, and tells how far it came."""

from datetime import timedelta

from mailer.clock import Clock
from mailer.v1 import sender_pb2
from mailer.wire import to_duration
from services.sender.account import Account
from services.sender.credentials import PasswordUnavailable
from services.sender.dialing import Dial
from services.sender.replies import History, Incident, Reply, Scope, Stage, judge
from services.sender.smtp import ConnectFailed

# The table is patient with failures that may pass; whoever asks for a check wants to know what to do about them.
_OUT_OF_PATIENCE = History(count=1000, lasting=timedelta(days=365))


class Verifier:
    """Opens a connection like a delivery does (`dial`), says NOOP and QUIT."""

    def __init__(self, clock: Clock, dial: Dial) -> None:
        """Take how connections are opened; `dial` raises ConnectFailed or PasswordUnavailable."""
        self._clock = clock
        self._dial = dial

    async def verify(self, account: Account) -> sender_pb2.VerifyAccountResponse:
        """Return how far it came. A server that refuses is an answer; only bugs and cancels are raised."""
        start = self._clock.monotonic()
        answer = await self._try(account)
        answer.duration.CopyFrom(to_duration(timedelta(seconds=self._clock.monotonic() - start)))
        return answer

    async def _try(self, account: Account) -> sender_pb2.VerifyAccountResponse:
        try:
            conversation = await self._dial(account)
        except ConnectFailed as failed:
            return _failed(failed.incident)
        except PasswordUnavailable as error:
            return sender_pb2.VerifyAccountResponse(failed_stage=Stage.AUTH.value, description=f"{error}.")
        try:
            incident = await conversation.noop()
        finally:
            await conversation.quit()
        if incident.reply is None or not incident.reply.is_positive:
            return _failed(incident)
        how = f"{conversation.tls_version or 'no TLS'}, {'logged in' if account.has_password else 'no login'}"
        return sender_pb2.VerifyAccountResponse(
            verified=True,
            reply=_reply(incident.reply),
            description=f"Connected to {account.host}:{account.port}: {how}.",
            extensions=sorted(conversation.extensions.keywords),
            tls_version=conversation.tls_version,
        )


def _failed(incident: Incident) -> sender_pb2.VerifyAccountResponse:
    verdict = judge(incident)
    if verdict.remember is Scope.ACCOUNT:
        verdict = judge(incident, history={verdict.rule: _OUT_OF_PATIENCE})
    return sender_pb2.VerifyAccountResponse(
        failed_stage=incident.stage.value,
        reply=_reply(incident.reply) if incident.reply else None,
        description=verdict.reason,
    )


def _reply(reply: Reply) -> sender_pb2.SmtpReply:
    return sender_pb2.SmtpReply(code=reply.code, enhanced_code=str(reply.enhanced or ""), text=reply.text)
