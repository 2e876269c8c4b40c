"""Runs a command line and says in one sentence when it cannot be done."""

import inspect
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import typer

from mailer.cli.choices import Choices
from mailer.cli.exit_code import ExitCode
from mailer.cli.root import app
from mailer.clock import SystemClock


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status of the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Read by grpc when it is imported: its own lines about a connection are no sentences for people.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 (sets, for a library)
    try:
        called = interpret(arguments, Choices(SystemClock()))
        if isinstance(called, int):
            return called
        import asyncio  # noqa: PLC0415 (help does not need it)

        asyncio.run(called)
    except Exception as error:  # noqa: BLE001 (a traceback is no sentence)
        from mailer.cli.complaint import complain  # noqa: PLC0415 (needs what help does not)

        return complain(error, as_json="--json" in arguments)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def interpret(arguments: Sequence[str], choices: Choices) -> int | Coroutine[Any, Any, None]:
    """Return what is left to await, or the exit status of what is done already."""
    outcome = typer.main.get_command(app)(list(arguments), prog_name="mailer", standalone_mode=False, obj=choices)
    if inspect.iscoroutine(outcome):
        return outcome
    return outcome if isinstance(outcome, int) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
