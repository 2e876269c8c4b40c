"""Passwords from a person or a pipe, never from an argument: the process list shows arguments to everybody."""

import sys

import typer

from mailer.cli.failure import usage
from mailer.secrets import Secret


def read_secret(question: str, *, from_stdin: bool) -> Secret:
    """Return the password: the first line of stdin, or what is typed twice without being shown."""
    if from_stdin:
        text = sys.stdin.readline().rstrip("\r\n")
        if not text:
            raise usage("there is no password on stdin: pipe one line into the command.")
        return Secret(text)
    if not sys.stdin.isatty():
        raise usage("a password can be asked for on a terminal only: use --password-stdin, or a reference.")
    return Secret(typer.prompt(question.rstrip(": "), hide_input=True, confirmation_prompt=True, err=True))
