"""Why a command ends without having done what was asked: one sentence with the cure, and an exit status."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

from mailer.cli.exit_code import ExitCode
from mailer.client import details_of, readable

_EXIT_CODES = {
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
    return Failure(
        sentence=readable(error, target=target),
        exit_code=_EXIT_CODES.get(details.code, ExitCode.REFUSED),
        code=details.code.name,
        reason=details.reason,
        metadata=details.metadata,
        violations={one.field: one.description for one in details.violations},
    )
