"""Says on stderr why a command ended: one sentence, never a traceback."""

import json
import os
import sys
import traceback
from pathlib import Path

import grpc
import typer

from mailer.cli.exit_code import ExitCode
from mailer.cli.failure import Failure, failed_call, usage
from mailer.cli.words import printable
from mailer.errors import CannotStart


def complain(error: BaseException, *, as_json: bool) -> int:
    """Print the sentence (with `as_json` the whole failure on stdout too); returns the exit status."""
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has left: Python must not complain about it at its end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OUTPUT_CLOSED
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.TyperException) and type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    failure = failure_of(error)
    if as_json:
        print(json.dumps(failure.as_json(), ensure_ascii=False, indent=2))
    print(f"mailer: {printable(failure.sentence)}", file=sys.stderr)
    return failure.exit_code


def failure_of(error: BaseException) -> Failure:
    """Return why the command failed, whatever was raised."""
    match error:
        case BaseExceptionGroup() if len(error.exceptions) == 1:
            failure = failure_of(error.exceptions[0])
        case Failure():
            failure = error
        case typer.TyperException():
            failure = _wrong_command_line(error)
        case typer.Abort() | EOFError():
            failure = Failure("stopped at the question; nothing was changed.", ExitCode.INTERRUPTED)
        case CannotStart():
            failure = usage("; ".join(error.problems))
        case grpc.aio.AioRpcError():
            failure = failed_call(error, target="the service")
        case OSError(filename=str() as name):
            failure = usage(f"{name}: {(error.strerror or str(error)).lower()}; check the name and your rights.")
        case _:
            failure = _bug(error)
    return failure


def _bug(error: BaseException) -> Failure:
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(place[0].filename).name}:{place[0].lineno}" if place else ""
    return Failure(f"this is a bug of the command: {type(error).__name__}: {error}{where}; please report it.")


def _wrong_command_line(error: typer.TyperException) -> Failure:
    sentence = error.format_message().replace("Value error, ", "").rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "mailer"
    return usage(f"{sentence}{'' if sentence.endswith('?') else '.'} See {path} --help.")
