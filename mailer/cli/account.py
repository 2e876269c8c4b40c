"""`mailer account`: the SMTP accounts that messages go out through."""

from functools import partial
from typing import Annotated
from uuid import uuid4

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from mailer.cli import account_options as options
from mailer.cli.account_view import account_details, account_table, is_circuit_open, reset_hint, verification
from mailer.cli.command import Commands
from mailer.cli.exit_code import ExitCode
from mailer.cli.failure import usage
from mailer.cli.listing import Limit, account_id, print_list
from mailer.cli.question import Yes, confirm
from mailer.cli.session import QUICK, Session
from mailer.v1 import sender_pb2

commands = Commands("SMTP accounts: where messages go out. An account is named by its name or id.")

# Each stage of a conversation with a server may take a minute.
_VERIFY = 300.0

Which = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Name or id.")]


@commands.command()
async def add(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option(help="Name for people, unique.")],
    host: Annotated[str, typer.Option(help="Host name or address of the server.")],
    port: options.Port = None,
    tls: options.TlsMode = None,
    from_addresses: options.From = None,
    disabled: options.Disabled = None,
    ehlo: options.Ehlo = None,
    ca_certificates: options.CaCertificates = None,
    user: options.User = None,
    password_env: options.PasswordEnv = None,
    password_file: options.PasswordFile = None,
    password_stdin: options.PasswordStdin = False,
    connections: options.Connections = None,
    weight: options.Weight = None,
    per_second: options.PerSecond = None,
    per_minute: options.PerMinute = None,
    per_hour: options.PerHour = None,
    per_day: options.PerDay = None,
    circuit_failures: options.CircuitFailures = None,
    circuit_rest: options.CircuitRest = None,
    circuit_max_rest: options.CircuitMaxRest = None,
    retry_delays: options.RetryDelays = None,
    retry_on: options.RetryOn = None,
) -> None:
    """Add an account. The password is asked for, read from stdin, or stays where the sender can read it.

    Example: mailer account add --name main --host smtp.example.org --tls starttls --user news --from @example.org
    """
    given = {name: value for name, value in locals().items() if name != "context"}
    session = Session(context)
    account, _ = options.AccountOptions(**given).to_account(ask_password=True)
    async with session.sender() as sender:
        answer = await sender.CreateAccount(
            sender_pb2.CreateAccountRequest(request_id=uuid4().hex, account=account), timeout=QUICK
        )
    session.out.answer(answer, lambda: account_details(session.out, answer.account))
    session.out.note(f'See whether it works: mailer account verify "{answer.account.name}"', style="dim")


@commands.command("list")
async def list_accounts(context: typer.Context, *, limit: Limit = 100) -> None:
    """List the accounts with their state.

    Example: mailer account list
    """
    session = Session(context)
    async with session.sender() as sender:
        request = sender_pb2.ListAccountsRequest()
        table = partial(account_table, session.out)
        await print_list(session.out, sender.ListAccounts, request, "accounts", table, limit=limit)


@commands.command()
async def show(context: typer.Context, account: Which) -> None:
    """Show one account with its circuit, caps and rests.

    Example: mailer account show main
    """
    session = Session(context)
    async with session.sender() as sender:
        wanted = await account_id(sender, account)
        answer = await sender.GetAccount(sender_pb2.GetAccountRequest(account_id=wanted), timeout=QUICK)
    session.out.answer(answer, lambda: account_details(session.out, answer.account))


@commands.command()
async def verify(context: typer.Context, account: Which) -> None:
    """Connect, negotiate TLS and log in, without sending anything; exit status 6 when that does not work.

    Example: mailer account verify main
    """
    session = Session(context)
    async with session.sender() as sender:
        wanted = await account_id(sender, account)
        answer = await sender.VerifyAccount(sender_pb2.VerifyAccountRequest(account_id=wanted), timeout=_VERIFY)
        found = (await sender.GetAccount(sender_pb2.GetAccountRequest(account_id=wanted), timeout=QUICK)).account
    session.out.answer(answer, lambda: verification(session.out, answer))
    if answer.verified and is_circuit_open(found):
        session.out.note(f"It works again, but its circuit is still open: {reset_hint(found)}.")
    if not answer.verified:
        raise typer.Exit(ExitCode.UNVERIFIED)


@commands.command()
async def update(
    context: typer.Context,
    account: Which,
    *,
    name: options.Name = None,
    host: options.Host = None,
    port: options.Port = None,
    tls: options.TlsMode = None,
    from_addresses: options.From = None,
    disabled: options.Disabled = None,
    ehlo: options.Ehlo = None,
    ca_certificates: options.CaCertificates = None,
    user: options.User = None,
    password_env: options.PasswordEnv = None,
    password_file: options.PasswordFile = None,
    password_stdin: options.PasswordStdin = False,
    connections: options.Connections = None,
    weight: options.Weight = None,
    per_second: options.PerSecond = None,
    per_minute: options.PerMinute = None,
    per_hour: options.PerHour = None,
    per_day: options.PerDay = None,
    circuit_failures: options.CircuitFailures = None,
    circuit_rest: options.CircuitRest = None,
    circuit_max_rest: options.CircuitMaxRest = None,
    retry_delays: options.RetryDelays = None,
    retry_on: options.RetryOn = None,
) -> None:
    """Change what is named, and nothing else.

    Example: mailer account update main --per-hour 500
    """
    given = {name: value for name, value in locals().items() if name not in {"context", "account"}}
    session = Session(context)
    wanted, paths = options.AccountOptions(**given).to_account(ask_password=False)
    if not paths:
        raise usage("nothing to change was named; see mailer account update --help.")
    async with session.sender() as sender:
        wanted.account_id = await account_id(sender, account)
        answer = await sender.UpdateAccount(
            sender_pb2.UpdateAccountRequest(account=wanted, update_mask=FieldMask(paths=paths)), timeout=QUICK
        )
    session.out.answer(answer, lambda: account_details(session.out, answer.account))


@commands.command()
async def hold(
    context: typer.Context,
    account: Which,
    *,
    reason: Annotated[str, typer.Option(help="For whoever reads it later.")] = "",
) -> None:
    """Take an account out of service until it is released; messages wait or go through the others.

    Example: mailer account hold main --reason "provider is down until noon"
    """
    session = Session(context)
    async with session.sender() as sender:
        request = sender_pb2.HoldAccountRequest(account_id=await account_id(sender, account), reason=reason)
        answer = await sender.HoldAccount(request, timeout=QUICK)
    session.out.answer(
        answer, lambda: f'{answer.account.name} is held. Put it back: mailer account release "{answer.account.name}"'
    )


@commands.command()
async def release(context: typer.Context, account: Which) -> None:
    """Put a held account back into service.

    Example: mailer account release main
    """
    session = Session(context)
    async with session.sender() as sender:
        request = sender_pb2.ReleaseAccountRequest(account_id=await account_id(sender, account))
        answer = await sender.ReleaseAccount(request, timeout=QUICK)
    session.out.answer(answer, lambda: f"{answer.account.name} is in service.")


@commands.command()
async def reset(context: typer.Context, account: Which) -> None:
    """Close the circuit of an account at once and forget its failures.

    Example: mailer account reset main
    """
    session = Session(context)
    async with session.sender() as sender:
        request = sender_pb2.ResetCircuitRequest(account_id=await account_id(sender, account))
        answer = await sender.ResetCircuit(request, timeout=QUICK)
    session.out.answer(answer, lambda: f"The circuit of {answer.account.name} is closed.")


@commands.command()
async def remove(context: typer.Context, account: Which, *, yes: Yes = False) -> None:
    """Remove an account; its attempts stay in the books.

    Example: mailer account remove old --yes
    """
    session = Session(context)
    async with session.sender() as sender:
        wanted = await account_id(sender, account)
        confirm(f'Remove the account "{account}"?', yes=yes)
        answer = await sender.DeleteAccount(sender_pb2.DeleteAccountRequest(account_id=wanted), timeout=QUICK)
    session.out.answer(answer, lambda: f"{account} is removed.")
