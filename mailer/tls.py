"""TLS for both ends of a channel, from PEM files."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from mailer.errors import CannotStart


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A server's certificate and key; with a client CA, clients must show a certificate of it."""

    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Read the files; raises CannotStart naming the one that cannot be read or is no PEM."""
        pair = (_read(self.key_file), _read(self.certificate_file))
        if self.client_ca_file is None:
            return grpc.ssl_server_credentials([pair])
        return grpc.ssl_server_credentials(
            [pair], root_certificates=_read(self.client_ca_file), require_client_auth=True
        )


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a client trusts (None: the system's authorities); for mutual TLS, its own certificate and key."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files; raises CannotStart naming the one that cannot be read or is no PEM."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca_file) if self.ca_file else None,
            private_key=_read(self.key_file) if self.key_file else None,
            certificate_chain=_read(self.certificate_file) if self.certificate_file else None,
        )


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CannotStart(f"{path} cannot be read: {error.strerror}") from None
    if b"-----BEGIN " not in content:
        raise CannotStart(f"{path} is no PEM file: it has no line that begins with -----BEGIN")
    return content
