"""The options of servers and channels, which gRPC ignores without a word when their names are wrong."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from mailer import client, server


def library() -> bytes:
    """Return the compiled part of gRPC."""
    spec = find_spec("grpc._cython.cygrpc")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_bytes()


@pytest.mark.parametrize("name", sorted({name for name, _ in (*client._OPTIONS, *server._OPTIONS)}))
def test_grpc_knows_the_option(name: str) -> None:
    assert name.encode() + b"\0" in library()


def test_a_server_of_ours_lets_our_clients_ping() -> None:
    pings, allowed = dict(client._OPTIONS), dict(server._OPTIONS)
    assert pings["grpc.keepalive_time_ms"] >= allowed["grpc.http2.min_ping_interval_without_data_ms"]
