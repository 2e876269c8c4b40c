"""A sender that remembers: what it was given, by request_id, and what it was told about runs.

It keeps the promises of the contract that a scheduler builds on (stored answers, run states, NOT_FOUND) and can be
told to refuse, to hang, or to lose its answer.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field

from mailer.errors import AlreadyExists, FailedPrecondition, MailerError, NotFound, Unavailable
from mailer.go_ahead import says_go_ahead
from mailer.interceptor import Context
from mailer.message.address import mailbox_key
from mailer.v1 import sender_pb2

_Run = sender_pb2.Run
_OPEN = ("pending", "claimed", "deferred")


@dataclass
class FakeRun:
    """A run as the fake has it: its state and the state of each delivery by mailbox."""

    campaign_id: str = ""
    state: str = "active"
    reason: str = ""
    deliveries: dict[str, str] = field(default_factory=dict)

    def move(self, before: str, after: str) -> int:
        """Put every delivery that is in one state into another; returns how many."""
        moved = [key for key, state in self.deliveries.items() if state == before]
        self.deliveries.update(dict.fromkeys(moved, after))
        return len(moved)


class FakeSender:
    """The methods of service Sender that the scheduler calls."""

    def __init__(self) -> None:
        """Begin without anything; deliveries are `sent` as soon as they are stored."""
        self.port = 0
        self.requests: list[sender_pb2.SendBatchRequest] = []
        """Every SendBatch that was stored, in order, repeated ones left out."""
        self.calls: list[str] = []
        """Names of all calls, in order."""
        self.go_aheads: list[str] = []
        """Ids of the runs that were asked about with the go-ahead, in order."""
        self.runs: dict[str, FakeRun] = {}
        self.accounts: list[sender_pb2.Account] = []
        self.delivers = True
        """Whether what is stored is sent at once; else it stays pending until `deliver`."""
        self.errors: deque[MailerError] = deque()
        """Answers of the next SendBatch calls, nothing stored."""
        self.lost_answers = 0
        """So many of the next batches are stored, and then answered UNAVAILABLE."""
        self.reject: set[str] = set()
        """Addresses that are not taken."""
        self.gate = asyncio.Event()
        """While it is cleared, SendBatch hangs before it stores anything."""
        self.gate.set()
        self.given_up = 0
        """SendBatch calls that the caller did not wait for."""
        self._answers: dict[str, tuple[bytes, sender_pb2.SendBatchResponse]] = {}
        self._retries: dict[str, int] = {}

    @property
    def copies(self) -> Counter[str]:
        """Return how often each address was stored as a delivery, over all runs."""
        return Counter(key for run in self.runs.values() for key in run.deliveries)

    @property
    def handed_over(self) -> Counter[str]:
        """Return how often each address came in a batch that was stored."""
        return Counter(one.address for request in self.requests for one in request.recipients)

    def deliver(self, run_id: str = "", outcome: str = "sent") -> None:
        """Let what is pending come to an end."""
        for known_id, run in self.runs.items():
            if known_id == run_id or not run_id:
                run.move("pending", outcome)

    async def SendBatch(self, request: sender_pb2.SendBatchRequest, context: Context) -> sender_pb2.SendBatchResponse:
        """Store a batch, or do what the test wants instead."""
        self._note("SendBatch")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.errors:
            raise self.errors.popleft()
        answer = self._store(request)
        if self.lost_answers:
            self.lost_answers -= 1
            raise Unavailable("the answer is lost on its way", reason="LOST")
        return answer

    async def GetRun(self, request: sender_pb2.GetRunRequest, context: Context) -> sender_pb2.GetRunResponse:
        """Return a run."""
        self._note("GetRun")
        if says_go_ahead(context.invocation_metadata()):
            self.go_aheads.append(request.run_id)
        return sender_pb2.GetRunResponse(run=self._present(request.run_id))

    async def PauseRun(self, request: sender_pb2.PauseRunRequest, context: Context) -> sender_pb2.PauseRunResponse:
        """Stop a run."""
        self._note("PauseRun")
        self._decide(request.run_id, "paused", request.reason)
        return sender_pb2.PauseRunResponse(run=self._present(request.run_id))

    async def ResumeRun(self, request: sender_pb2.ResumeRunRequest, context: Context) -> sender_pb2.ResumeRunResponse:
        """Let a run go on."""
        self._note("ResumeRun")
        self._decide(request.run_id, "active", "")
        if self.delivers:
            self.deliver(request.run_id)
        return sender_pb2.ResumeRunResponse(run=self._present(request.run_id))

    async def CancelRun(self, request: sender_pb2.CancelRunRequest, context: Context) -> sender_pb2.CancelRunResponse:
        """Cancel a run, known or not."""
        self._note("CancelRun")
        run = self.runs.setdefault(request.run_id, FakeRun())
        run.state = "cancelled"
        for state in _OPEN:
            run.move(state, "cancelled")
        return sender_pb2.CancelRunResponse(run=self._present(request.run_id))

    async def RetryRun(self, request: sender_pb2.RetryRunRequest, context: Context) -> sender_pb2.RetryRunResponse:
        """Queue failed deliveries again, once per request_id."""
        self._note("RetryRun")
        if request.request_id not in self._retries:
            run = self._existing(request.run_id)
            self._retries[request.request_id] = run.move("failed", "pending")
            if request.include_expired:
                self._retries[request.request_id] += run.move("expired", "pending")
        return sender_pb2.RetryRunResponse(retried_count=self._retries[request.request_id])

    async def ListAccounts(
        self, request: sender_pb2.ListAccountsRequest, context: Context
    ) -> sender_pb2.ListAccountsResponse:
        """List accounts."""
        self._note("ListAccounts")
        return sender_pb2.ListAccountsResponse(accounts=self.accounts)

    def _note(self, name: str) -> None:
        self.calls.append(name)

    def _store(self, request: sender_pb2.SendBatchRequest) -> sender_pb2.SendBatchResponse:
        digest = request.SerializeToString(deterministic=True)
        known = self._answers.get(request.request_id)
        if known is not None:
            if known[0] != digest:
                raise AlreadyExists("another body under this request_id", reason="REQUEST_ID_REUSED")
            return known[1]
        run = self.runs.setdefault(request.run_id, FakeRun(campaign_id=request.campaign_id))
        answer = sender_pb2.SendBatchResponse(run_id=request.run_id)
        state = {"active": "sent" if self.delivers else "pending", "cancelled": "cancelled"}.get(run.state, "pending")
        for index, recipient in enumerate(request.recipients):
            key = mailbox_key(recipient.address)
            if recipient.address in self.reject:
                answer.rejected.add(index=index, address=recipient.address, description="not wanted")
            elif key in run.deliveries:
                answer.duplicate_count += 1
            else:
                run.deliveries[key] = state
                answer.accepted_count += 1
        self.requests.append(request)
        self._answers[request.request_id] = (digest, answer)
        return answer

    def _existing(self, run_id: str) -> FakeRun:
        if run_id not in self.runs:
            raise NotFound(f"there is no run {run_id}", metadata={"run_id": run_id})
        return self.runs[run_id]

    def _decide(self, run_id: str, state: str, reason: str) -> None:
        run = self._existing(run_id)
        if run.state == "cancelled":
            raise FailedPrecondition("the run is cancelled", reason="RUN_CANCELLED")
        run.state, run.reason = state, reason

    def _present(self, run_id: str) -> sender_pb2.Run:
        run = self._existing(run_id)
        counted = Counter(run.deliveries.values())
        state = {
            "active": _Run.STATE_ACTIVE if any(counted[one] for one in _OPEN) else _Run.STATE_DONE,
            "stalled": _Run.STATE_STALLED,
            "paused": _Run.STATE_PAUSED,
            "held": _Run.STATE_HELD,
            "cancelled": _Run.STATE_CANCELLED,
        }[run.state]
        return _Run(
            run_id=run_id,
            campaign_id=run.campaign_id,
            state=state,
            state_reason=run.reason,
            counts=sender_pb2.DeliveryCounts(
                total_count=len(run.deliveries),
                pending_count=counted["pending"],
                in_progress_count=counted["claimed"],
                deferred_count=counted["deferred"],
                sent_count=counted["sent"],
                failed_count=counted["failed"],
                unknown_count=counted["unknown"],
                cancelled_count=counted["cancelled"],
                expired_count=counted["expired"],
            ),
        )

    def __getattr__(self, name: str) -> object:
        """Answer UNIMPLEMENTED where the scheduler has no business."""
        if not name[0].isupper():
            raise AttributeError(name)
        return None
