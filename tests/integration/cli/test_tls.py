"""TLS between the command and the services: what does not fit is said in one sentence."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from prometheus_client import CollectorRegistry

from mailer.cli.session import SENDER
from mailer.clock import SystemClock
from mailer.server import GrpcServer
from mailer.tls import ServerTls
from mailer.v1 import sender_pb2_grpc
from tests.fakes.scripted_sender import ScriptedSender
from tests.integration.cli.conftest import CommandLine


@pytest.fixture
async def authority(tmp_path: Path, mailer: CommandLine, sender: ScriptedSender) -> AsyncIterator[str]:
    """Put the sender behind TLS, and return the file of its authority."""
    authority, certificate = trustme.CA(), tmp_path / "certificate.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    server = GrpcServer(
        [SENDER],
        host="127.0.0.1",
        port=0,
        clock=SystemClock(),
        registry=CollectorRegistry(),
        tls=ServerTls(certificate, certificate),
    )
    sender_pb2_grpc.add_SenderServicer_to_server(sender, server.grpc)
    await server.start()
    mailer.sender = f"127.0.0.1:{server.port}"
    yield str(tmp_path / "authority.pem")
    await server.stop()


async def test_a_trusted_service_is_spoken_to(mailer: CommandLine, authority: str) -> None:
    assert (await mailer("--ca-file", authority, "account", "list")).status == 0


async def test_a_certificate_of_somebody_else_is_not_trusted(
    mailer: CommandLine, authority: str, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    outcome = await mailer("--ca-file", str(tmp_path / "other.pem"), "account", "list")
    assert outcome.status == 5
    assert "not trusted: name its authority with --ca-file" in outcome.err


async def test_plain_text_to_a_service_with_tls_names_the_cure(mailer: CommandLine, authority: str) -> None:
    outcome = await mailer("account", "list")
    assert outcome.status == 5
    assert "if it speaks TLS, add --ca-file" in outcome.err


async def test_tls_to_a_service_without_it_names_the_cure(mailer: CommandLine, authority: str) -> None:
    outcome = await mailer("--ca-file", authority, "backup", "list")
    assert outcome.status == 5
    assert "speaks no TLS" in outcome.err


async def test_a_file_that_is_no_pem_is_named(mailer: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "ca.der").write_bytes(b"0\x82")
    outcome = await mailer("--ca-file", str(tmp_path / "ca.der"), "account", "list")
    assert outcome.status == 2
    assert "ca.der is no PEM file" in outcome.err


async def test_a_file_that_is_not_there_is_named(mailer: CommandLine) -> None:
    outcome = await mailer("--ca-file", "nowhere.pem", "account", "list")
    assert outcome.status == 2
    assert "nowhere.pem" in outcome.err
