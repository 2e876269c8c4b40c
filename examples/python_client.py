"""Send two personal messages through a running sender, and tell what became of them.

    make up                                         # in one terminal
    .venv/bin/python examples/python_client.py      # in another

Stubs and messages come with the package (`mailer.v1`), typed: an editor completes every field.
"""

import sys
import uuid

import grpc
from google.protobuf.json_format import ParseDict

from mailer.v1 import sender_pb2, sender_pb2_grpc

SENDER = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50052"

PEOPLE = [
    {"address": "ada@post.example", "display_name": "Ada", "variables": {"name": "Ada", "cakes": 2}},
    {"address": "zoe@bücher.example", "variables": {"name": "Zoë", "cakes": 1}},
]


def main() -> int:
    """Return 0 when every message was sent."""
    request = sender_pb2.SendBatchRequest(
        # Made once and kept for repetitions: calling again with it sends nothing twice.
        request_id=str(uuid.uuid4()),
        content=sender_pb2.MessageContent(
            from_address=sender_pb2.Mailbox(address="news@bakery.example", display_name="Saltwind Bakery"),
            subject="{{ name }}, your order is ready",
            text="{{ cakes }} cake{% if cakes != 1 %}s{% endif %} for {{ name }}, until six.\n",
        ),
        recipients=[ParseDict(person, sender_pb2.Recipient()) for person in PEOPLE],
    )
    with grpc.insecure_channel(SENDER) as channel:
        sender = sender_pb2_grpc.SenderStub(channel)
        try:
            if not sender.ListAccounts(sender_pb2.ListAccountsRequest(), timeout=5).accounts:
                print("There is no account to send through yet: see `mailer account add --help`.")
                return 1
            stored = sender.SendBatch(request, timeout=10)
            for rejected in stored.rejected:
                print(f"not taken: {rejected.address}: {rejected.description}")
            counts = sender_pb2.DeliveryCounts()
            # Ends when every delivery is final: with the server down for a while that may take long.
            for answer in sender.WatchRun(sender_pb2.WatchRunRequest(run_id=stored.run_id), timeout=60):
                counts = answer.run.counts
                print(f"sent {counts.sent_count} of {counts.total_count}")
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}")
            return 1
    return 0 if counts.sent_count == len(PEOPLE) else 1


if __name__ == "__main__":
    sys.exit(main())
