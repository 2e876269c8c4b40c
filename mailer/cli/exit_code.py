"""What the command's exit status tells a script."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Every status that `mailer` ends with; docs/cli.md explains them."""

    OK = 0
    REFUSED = 1
    """The service refused, or something failed."""
    USAGE = 2
    """The command line or a file it names is wrong; nothing was done."""
    NOT_FOUND = 3
    WRONG_STATE = 4
    UNREACHABLE = 5
    """A service cannot be reached or is not well."""
    UNVERIFIED = 6
    """What was to be verified is not sound."""
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141
    """Who read the output has left: 128 and SIGPIPE, as every program of a pipeline ends."""
