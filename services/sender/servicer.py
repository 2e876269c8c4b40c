"""The service Sender: each group of methods lives beside the noun it is about."""

from typing import cast

import grpc

from mailer.interceptor import Context
from mailer.v1 import sender_pb2, sender_pb2_grpc
from services.sender.account_rpcs import AccountRpcs
from services.sender.delivery_rpcs import DeliveryRpcs
from services.sender.intake import Intake
from services.sender.run_rpcs import RunRpcs
from services.sender.suppressions import SuppressionRpcs


class SenderServicer:
    """Gathers the methods of the contract; a test walks the descriptors, so that none is forgotten."""

    def __init__(
        self,
        *,
        intake: Intake,
        runs: RunRpcs,
        deliveries: DeliveryRpcs,
        accounts: AccountRpcs,
        suppressions: SuppressionRpcs,
    ) -> None:
        """Take the groups of methods."""
        self._intake = intake
        self.GetRun = runs.GetRun
        self.WatchRun = runs.WatchRun
        self.PauseRun = runs.PauseRun
        self.ResumeRun = runs.ResumeRun
        self.CancelRun = runs.CancelRun
        self.RetryRun = runs.RetryRun
        self.ListDeliveries = deliveries.ListDeliveries
        self.GetDelivery = deliveries.GetDelivery
        self.ResolveUnknown = deliveries.ResolveUnknown
        self.CreateAccount = accounts.CreateAccount
        self.GetAccount = accounts.GetAccount
        self.ListAccounts = accounts.ListAccounts
        self.UpdateAccount = accounts.UpdateAccount
        self.DeleteAccount = accounts.DeleteAccount
        self.VerifyAccount = accounts.VerifyAccount
        self.HoldAccount = accounts.HoldAccount
        self.ReleaseAccount = accounts.ReleaseAccount
        self.ResetCircuit = accounts.ResetCircuit
        self.AddSuppressions = suppressions.AddSuppressions
        self.RemoveSuppression = suppressions.RemoveSuppression
        self.ListSuppressions = suppressions.ListSuppressions

    async def SendBatch(self, request: sender_pb2.SendBatchRequest, context: Context) -> sender_pb2.SendBatchResponse:
        """Store a batch durably."""
        return await self._intake.send_batch(request)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offer the service on a server."""
        sender_pb2_grpc.add_SenderServicer_to_server(cast("sender_pb2_grpc.SenderServicer", self), server)
