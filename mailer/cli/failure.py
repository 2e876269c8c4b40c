"""Why a command ends without having done what was asked: one sentence with the cure, and an exit status."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

from mailer.cli.exit_code import ExitCode
from mailer.cli.wire_words import in_words, option_of
from mailer.client import details_of, readable

_EXIT_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.USAGE,
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION: ExitCode.WRONG_STATE,
    grpc.StatusCode.ABORTED: ExitCode.WRONG_STATE,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.UNREACHABLE,
    grpc.StatusCode.DATA_LOSS: ExitCode.UNVERIFIED,
}


@dataclass
class Failure(Exception):
    """Raised by a command; the program prints `sentence` and ends with `exit_code`."""

    sentence: str
    exit_code: ExitCode = ExitCode.REFUSED
    code: str = ""
    """Name of the gRPC status, when a service said it."""
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: Mapping[str, str] = field(default_factory=dict)
    """Field to what is wrong with it."""

    def __str__(self) -> str:
        """Return the sentence."""
        return self.sentence

    def as_json(self) -> dict[str, object]:
        """Return what `--json` prints in place of an answer."""
        return {
            "error": {
                "message": self.sentence,
                "exit_code": int(self.exit_code),
                "code": self.code,
                "reason": self.reason,
                "metadata": dict(self.metadata),
                "field_violations": [
                    {"field": name, "description": description} for name, description in self.violations.items()
                ],
            }
        }


def usage(sentence: str) -> Failure:
    """Return the failure of a command line that cannot work."""
    return Failure(sentence, ExitCode.USAGE)


def failed_call(error: grpc.aio.AioRpcError, *, target: str) -> Failure:
    """Return the failure that a call to `target` ("the sender at 127.0.0.1:50052") came to."""
    details = details_of(error)
    if details.violations:
        wrong = [f"{option_of(one.field)}: {one.description.rstrip('.')}" for one in details.violations]
        sentence = f"{'; '.join(dict.fromkeys(wrong))}."
    else:
        sentence = _tls_trouble(details.message, target) or readable(error, target=target)
        if details.code is grpc.StatusCode.UNAVAILABLE and sentence.endswith("?"):
            sentence += " On this machine `mailer up` starts the services."
    exit_code = _EXIT_CODES.get(details.code, ExitCode.REFUSED)
    if [one.field for one in details.violations] == ["snapshot_id"]:
        exit_code = ExitCode.NOT_FOUND
    return Failure(
        sentence=in_words(sentence),
        exit_code=exit_code,
        code=details.code.name,
        reason=details.reason,
        metadata=details.metadata,
        violations={one.field: one.description for one in details.violations},
    )


def _tls_trouble(message: str, target: str) -> str:
    """Return the sentence for a connection that failed over TLS; grpc tells it in the text alone."""
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return f"{target} shows a certificate that is not trusted: name its authority with --ca-file."
    if "WRONG_VERSION_NUMBER" in message:
        return f"{target} speaks no TLS: leave out --ca-file (MAILER_CA_FILE), or set TLS up there."
    if "handshake failed" in message:
        return f"{target} does not agree on TLS: check --ca-file, and MAILER_CLIENT_CERTIFICATE_FILE for mutual TLS."
    if "Socket closed" in message:
        return f"{target} closed the connection: if it speaks TLS, add --ca-file; else it is just stopping."
    return ""
