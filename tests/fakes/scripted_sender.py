"""A sender that remembers what it was asked; on a real port."""

from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext

from mailer.errors import FieldViolation, InvalidArgument, NotFound
from mailer.v1 import sender_pb2, sender_pb2_grpc


class ScriptedSender(sender_pb2_grpc.SenderServicer):
    """Keeps accounts in memory."""

    def __init__(self) -> None:
        self.accounts: dict[str, sender_pb2.Account] = {}
        self.passwords: list[str] = []
        self.updated: list[sender_pb2.UpdateAccountRequest] = []
        self.verification = sender_pb2.VerifyAccountResponse(verified=True)
        self.deliveries: list[sender_pb2.Delivery] = []
        self.removal_time: Timestamp | None = None
        self.resolved: list[sender_pb2.ResolveUnknownRequest] = []

    async def CreateAccount(
        self, request: sender_pb2.CreateAccountRequest, context: "ServicerContext[object, object]"
    ) -> sender_pb2.CreateAccountResponse:
        account = sender_pb2.Account()
        account.CopyFrom(request.account)
        account.account_id = f"{len(self.accounts):032x}"
        self.passwords.append(account.credential.password)
        if account.credential.password:
            account.credential.password, account.has_password = "", True
        self.accounts[account.account_id] = account
        return sender_pb2.CreateAccountResponse(account=account)

    async def ListAccounts(
        self, request: sender_pb2.ListAccountsRequest, context: "ServicerContext[object, object]"
    ) -> sender_pb2.ListAccountsResponse:
        return sender_pb2.ListAccountsResponse(accounts=self.accounts.values())

    async def GetAccount(
        self, request: sender_pb2.GetAccountRequest, context: "ServicerContext[object, object]"
    ) -> sender_pb2.GetAccountResponse:
        if request.account_id not in self.accounts:
            raise NotFound(f"there is no account {request.account_id}.")
        return sender_pb2.GetAccountResponse(account=self.accounts[request.account_id])

    async def UpdateAccount(
        self, request: sender_pb2.UpdateAccountRequest, context: "ServicerContext[object, object]"
    ) -> sender_pb2.UpdateAccountResponse:
        self.updated.append(request)
        return sender_pb2.UpdateAccountResponse(account=self.accounts[request.account.account_id])

    async def VerifyAccount(
        self, request: sender_pb2.VerifyAccountRequest, context: "ServicerContext[object, object]"
    ) -> sender_pb2.VerifyAccountResponse:
        return self.verification

    async def HoldAccount(
        self, request: sender_pb2.HoldAccountRequest, context: "ServicerContext[object, object]"
    ) -> sender_pb2.HoldAccountResponse:
        account = self.accounts[request.account_id]
        account.held, account.hold_reason = True, request.reason
        return sender_pb2.HoldAccountResponse(account=account)

    async def ListDeliveries(
        self, request: sender_pb2.ListDeliveriesRequest, context: "ServicerContext[object, object]"
    ) -> sender_pb2.ListDeliveriesResponse:
        found = [one for one in self.deliveries if not request.states or one.state in request.states]
        return sender_pb2.ListDeliveriesResponse(deliveries=found, removal_time=self.removal_time)

    async def AddSuppressions(
        self, request: sender_pb2.AddSuppressionsRequest, context: "ServicerContext[object, object]"
    ) -> sender_pb2.AddSuppressionsResponse:
        wrong = [
            FieldViolation(f"addresses[{index}]", "no @: write an address")
            for index, address in enumerate(request.addresses)
            if "@" not in address
        ]
        if wrong:
            raise InvalidArgument(wrong)
        return sender_pb2.AddSuppressionsResponse(added_count=len(request.addresses))

    async def ResolveUnknown(
        self, request: sender_pb2.ResolveUnknownRequest, context: "ServicerContext[object, object]"
    ) -> sender_pb2.ResolveUnknownResponse:
        self.resolved.append(request)
        return sender_pb2.ResolveUnknownResponse(resolved_count=len(request.delivery_ids))
