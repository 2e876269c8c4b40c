"""A real server and a real channel: statuses, strictness, health, and a stop that breaks nobody's call."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import OperationalError

from mailer import errors
from mailer.client import connect, details_of, readable
from mailer.clock import Clock, SystemClock
from mailer.database import DatabaseBusy
from mailer.errors import CannotStart, FieldViolation
from mailer.server import MAX_RECEIVE_BYTES, GrpcServer
from mailer.tls import ClientTls, ServerTls
from tests.fakes.clock import FakeClock

NAME = "test.Echo"
UNKNOWN = b"\x9a\x06\x03abc"
CANARY = "secret password=canary-pa55word"

# Any message does: BadRequest goes in, RetryInfo comes out.
Behaviour = Callable[[], Any]


@dataclass
class Echo:
    """A service with one method of each kind; `behave` says what happens in them."""

    behave: Behaviour = lambda: None
    seen: list[Message] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)

    async def _act(self) -> None:
        self.entered.set()
        result = self.behave()
        if asyncio.iscoroutine(result):
            await result

    async def unary(self, request: Message, _: Any) -> RetryInfo:
        self.seen.append(request)
        await self._act()
        return RetryInfo()

    async def collect(self, requests: AsyncIterator[Message], _: Any) -> RetryInfo:
        async for request in requests:
            self.seen.append(request)
        await self._act()
        return RetryInfo()

    async def watch(self, request: Message, _: Any) -> AsyncIterator[RetryInfo]:
        self.seen.append(request)
        try:
            yield RetryInfo()
            await self._act()
        finally:
            self.ended.append("watch")

    async def chat(self, requests: AsyncIterator[Message], _: Any) -> AsyncIterator[RetryInfo]:
        async for request in requests:
            self.seen.append(request)
            yield RetryInfo()
        await self._act()

    async def written(self, request: Message, context: Any) -> None:
        self.seen.append(request)
        await context.write(RetryInfo())
        await self._act()

    async def aborts(self, _: Message, context: Any) -> None:
        await context.abort(grpc.StatusCode.DATA_LOSS, "on purpose")

    def handler(self) -> grpc.GenericRpcHandler:
        def of(make: Any, function: Any) -> Any:
            return make(
                function,
                request_deserializer=BadRequest.FromString,
                response_serializer=RetryInfo.SerializeToString,
            )

        return grpc.method_handlers_generic_handler(
            NAME,
            {
                "Unary": of(grpc.unary_unary_rpc_method_handler, self.unary),
                "Collect": of(grpc.stream_unary_rpc_method_handler, self.collect),
                "Watch": of(grpc.unary_stream_rpc_method_handler, self.watch),
                "Chat": of(grpc.stream_stream_rpc_method_handler, self.chat),
                "Written": of(grpc.unary_stream_rpc_method_handler, self.written),
                "Aborts": of(grpc.unary_unary_rpc_method_handler, self.aborts),
            },
        )


class Caller:
    """Calls the methods with raw bytes, as a client in another language or of another version might."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel: Any = channel

    async def unary(self, raw: bytes = b"", *, method: str = "Unary", timeout: float = 5) -> bytes:
        answer: bytes = await self.channel.unary_unary(f"/{NAME}/{method}")(raw, timeout=timeout)
        return answer

    async def collect(self, *raws: bytes) -> bytes:
        answer: bytes = await self.channel.stream_unary(f"/{NAME}/Collect")(iter(raws), timeout=5)
        return answer

    def watch(self, raw: bytes = b"", *, method: str = "Watch") -> Any:
        return self.channel.unary_stream(f"/{NAME}/{method}")(raw, timeout=5)

    def chat(self, *raws: bytes) -> Any:
        return self.channel.stream_stream(f"/{NAME}/Chat")(iter(raws), timeout=5)

    async def kind(self, kind: str, raw: bytes = b"") -> None:
        """Make one call of that kind and read it to its end."""
        match kind:
            case "unary":
                await self.unary(raw)
            case "collect":
                await self.collect(raw)
            case "chat":
                async for _ in self.chat(raw):
                    pass
            case method:
                async for _ in self.watch(raw, method=method.capitalize()):
                    pass


KINDS = ("unary", "collect", "watch", "chat", "written")


def new_server(echo: Echo, *, clock: Clock | None = None, port: int = 0, **more: Any) -> GrpcServer:
    options: dict[str, Any] = {"registry": CollectorRegistry(), "drain_seconds": 5.0} | more
    server = GrpcServer([], host="127.0.0.1", port=port, clock=clock or SystemClock(), **options)
    server.grpc.add_generic_rpc_handlers((echo.handler(),))
    return server


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def server(echo: Echo) -> AsyncIterator[GrpcServer]:
    server = new_server(echo)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def caller(server: GrpcServer) -> AsyncIterator[Caller]:
    async with connect(f"127.0.0.1:{server.port}") as channel:
        yield Caller(channel)


def raising(error: BaseException) -> Behaviour:
    def behave() -> None:
        raise error

    return behave


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_gets_through(kind: str, caller: Caller, echo: Echo) -> None:
    request = BadRequest(field_violations=[BadRequest.FieldViolation(field="x")])
    await caller.kind(kind, request.SerializeToString())
    assert echo.seen == [request]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_text_of_a_surprise_stays_in_the_log(
    kind: str, caller: Caller, echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    echo.behave = raising(ValueError(CANARY))
    with pytest.raises(grpc.aio.AioRpcError) as caught, caplog.at_level(logging.ERROR):
        await caller.kind(kind)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert CANARY not in str(caught.value)
    assert CANARY not in str(caught.value.debug_error_string())
    assert CANARY in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_of_ours_travels_whole(kind: str, caller: Caller, echo: Echo) -> None:
    echo.behave = raising(errors.InvalidArgument([FieldViolation("a", "is bad"), FieldViolation("b", "is worse")]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.kind(kind)
    details = details_of(caught.value)
    assert (details.code, details.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert details.violations == (FieldViolation("a", "is bad"), FieldViolation("b", "is worse"))
    assert readable(caught.value) == "a: is bad; b: is worse."


@pytest.mark.parametrize("piece", ["x", "ü", "✉", " "])
async def test_an_error_with_very_much_to_say_still_arrives(piece: str, caller: Caller, echo: Echo) -> None:
    wrong = [FieldViolation(f"f[{index}]{piece * 5000}", piece * 5000) for index in range(1000)]
    echo.behave = raising(errors.InvalidArgument(wrong))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.unary()
    details = details_of(caught.value)
    assert (details.code, details.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    *shown, rest = details.violations
    assert all(one.field.startswith(f"f[{index}]") for index, one in enumerate(shown))
    assert rest == FieldViolation("…", f"and {1000 - len(shown)} more")


async def test_an_error_with_large_metadata_still_arrives(caller: Caller, echo: Echo) -> None:
    echo.behave = raising(
        errors.NotFound("✉" * 10_000, metadata={f"name_{index}": "✉" * 10_000 for index in range(100)})
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.unary()
    details = details_of(caught.value)
    assert (details.code, details.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert details.metadata["name_0"].endswith("✉…")


async def test_calls_beyond_the_limit_hear_when_to_come_again_and_health_checks_are_no_such_calls(echo: Echo) -> None:
    server = new_server(echo, max_concurrent_calls=1)
    await server.start()
    echo.behave = asyncio.Event().wait
    async with connect(f"127.0.0.1:{server.port}") as channel:
        caller = Caller(channel)
        running = asyncio.create_task(caller.unary())
        watch = caller.watch()
        await echo.entered.wait()
        await watch.read()
        for kind in ("unary", "watch"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.kind(kind)
            details = details_of(caught.value)
            assert (details.reason, details.retry_after) == ("TOO_MANY_CALLS", timedelta(seconds=1))
        assert await health_of(server) == SERVING
        running.cancel()
        watch.cancel()
    await server.stop()


async def test_a_full_queue_says_when_to_come_again(caller: Caller, echo: Echo) -> None:
    echo.behave = raising(
        errors.ResourceExhausted("The queue is full.", reason="FULL", retry_after=timedelta(seconds=3))
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.unary()
    assert details_of(caught.value).retry_after == timedelta(seconds=3)
    assert readable(caught.value) == "The queue is full; try again in 3 s."


async def test_a_busy_database_is_unavailable_not_a_bug(caller: Caller, echo: Echo) -> None:
    error = OperationalError("UPDATE secret", None, Exception())
    for busy in (DatabaseBusy(), _locked(error)):
        echo.behave = raising(busy)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.unary()
        assert details_of(caught.value).reason == "DATABASE_BUSY"
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def _locked(error: OperationalError) -> OperationalError:
    import sqlite3

    cause = sqlite3.OperationalError("database is locked")
    cause.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.orig = cause
    return error


async def test_an_abort_of_a_servicer_passes(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.unary(method="Aborts")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "on purpose")
    assert "bug of ours" not in caplog.text


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unknown_field_is_refused(kind: str, caller: Caller, echo: Echo) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.kind(kind, UNKNOWN)
    details = details_of(caught.value)
    assert (details.code, details.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_FIELDS")
    assert [violation.field for violation in details.violations] == ["#99"]
    assert echo.seen == []


async def test_an_unknown_field_late_in_a_stream_is_refused(caller: Caller, echo: Echo) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.collect(b"", b"", UNKNOWN)
    assert details_of(caught.value).reason == "UNKNOWN_FIELDS"
    assert len(echo.seen) == 2


async def test_bytes_that_are_no_message_are_the_clients_error(caller: Caller) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.unary(b"\xff\xff\xff")
    assert details_of(caught.value).reason == "MALFORMED_MESSAGE"


async def test_a_message_above_the_limit_is_refused(caller: Caller) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.unary(b"\x0a" + b"\x00" * (MAX_RECEIVE_BYTES + 1))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unknown_method_is_unimplemented(caller: Caller) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.unary(method="Nothing")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "older version" in readable(caught.value)


async def test_calls_are_counted(echo: Echo) -> None:
    registry = CollectorRegistry()
    server = new_server(echo, registry=registry)
    await server.start()
    async with connect(f"127.0.0.1:{server.port}") as channel:
        caller = Caller(channel)
        await caller.unary()
        await caller.unary()
        echo.behave = raising(errors.NotFound("no"))
        with pytest.raises(grpc.aio.AioRpcError):
            await caller.unary()
    await server.stop()
    counted = {
        code: registry.get_sample_value("mailer_rpc_handled_total", {"method": "Unary", "code": code})
        for code in ("OK", "NOT_FOUND")
    }
    assert counted == {"OK": 2.0, "NOT_FOUND": 1.0}
    assert registry.get_sample_value("mailer_rpc_running", {"kind": "call"}) == 0.0


async def health_of(server: GrpcServer, service: str = "") -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        return int(answer.status)


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_is_good_while_every_condition_is(server: GrpcServer) -> None:
    assert await health_of(server) == SERVING
    await server.set_serving(False, condition="database")
    await server.set_serving(True, condition="something else")
    assert await health_of(server) == NOT_SERVING
    await server.set_serving(True, condition="database")
    assert await health_of(server) == SERVING


async def test_two_servers_cannot_share_a_port(server: GrpcServer) -> None:
    second = new_server(Echo(), port=server.port, port_setting="MAILER_SENDER_PORT")
    with pytest.raises(CannotStart) as caught:
        await second.start()
    (line,) = caught.value.problems
    assert f"127.0.0.1:{server.port}" in line
    assert "MAILER_SENDER_PORT" in line


async def test_the_port_is_not_shared_by_the_kernel_either(server: GrpcServer) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", server.port))


async def test_a_stop_waits_for_the_answers_that_are_owed(server: GrpcServer, caller: Caller, echo: Echo) -> None:
    go_on = asyncio.Event()
    echo.behave = go_on.wait
    call = asyncio.create_task(caller.unary())
    await echo.entered.wait()
    stopping = asyncio.create_task(server.stop())
    await server.stopping.wait()
    assert not stopping.done()
    go_on.set()
    assert await call == b""
    await stopping


async def test_during_a_stop_health_says_so_and_new_calls_are_refused_as_not_done(
    server: GrpcServer, caller: Caller, echo: Echo
) -> None:
    go_on = asyncio.Event()
    echo.behave = go_on.wait
    call = asyncio.create_task(caller.unary())
    await echo.entered.wait()
    stopping = asyncio.create_task(server.stop())
    await server.stopping.wait()
    assert await health_of(server) == NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.unary()
    assert details_of(caught.value).reason == "STOPPING"
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    go_on.set()
    await call
    await stopping


@pytest.mark.parametrize("method", ["Watch", "Written"])
async def test_an_open_stream_does_not_hold_up_a_stop_and_its_client_may_come_back(
    method: str, server: GrpcServer, caller: Caller, echo: Echo
) -> None:
    echo.behave = asyncio.Event().wait
    watch = caller.watch(method=method)
    assert await watch.read() == b""
    await echo.entered.wait()
    async with asyncio.timeout(3):
        stopping = asyncio.create_task(server.stop())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        await stopping
    assert details_of(caught.value).reason == "STOPPING"


async def test_a_stream_that_ends_by_itself_at_a_stop_ends_well(server: GrpcServer, caller: Caller, echo: Echo) -> None:
    echo.behave = server.stopping.wait
    watch = caller.watch()
    assert await watch.read() == b""
    await server.stop()
    assert await watch.read() is grpc.aio.EOF
    assert await watch.code() == grpc.StatusCode.OK


async def test_an_open_health_watch_does_not_hold_up_a_stop(server: GrpcServer) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert (await watch.read()).status == SERVING
        async with asyncio.timeout(3):
            stopping = asyncio.create_task(server.stop())
            assert (await watch.read()).status == NOT_SERVING
            await stopping


async def test_a_call_that_never_answers_is_cut_off_after_the_drain_time(echo: Echo, clock: FakeClock) -> None:
    server = new_server(echo, clock=clock, drain_seconds=30)
    await server.start()
    echo.behave = asyncio.Event().wait
    async with connect(f"127.0.0.1:{server.port}") as channel:
        call = asyncio.create_task(Caller(channel).unary())
        await echo.entered.wait()
        stopping = asyncio.create_task(server.stop())
        await clock.advance(29)
        assert not stopping.done()
        await clock.advance(2)
        await stopping
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_a_client_that_leaves_ends_its_stream(server: GrpcServer, caller: Caller, echo: Echo) -> None:
    echo.behave = asyncio.Event().wait
    watch = caller.watch()
    await watch.read()
    await echo.entered.wait()
    watch.cancel()
    async with asyncio.timeout(3):
        while not echo.ended:
            await asyncio.sleep(0.01)


async def test_a_signal_ends_the_server_in_good_order(echo: Echo) -> None:
    server = new_server(echo)
    await server.start()
    running = asyncio.create_task(server.run_until_signal())
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(3):
        await running
    assert server.stopping.is_set()


async def test_a_second_signal_does_not_wait_for_answers(echo: Echo) -> None:
    server = new_server(echo, drain_seconds=60)
    await server.start()
    echo.behave = asyncio.Event().wait
    async with connect(f"127.0.0.1:{server.port}") as channel:
        call = asyncio.create_task(Caller(channel).unary())
        await echo.entered.wait()
        running = asyncio.create_task(server.run_until_signal())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await server.stopping.wait()
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(3):
            await running
        with pytest.raises(grpc.aio.AioRpcError):
            await call


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name in ("server", "client"):
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return folder


async def test_over_mutual_tls_only_a_client_with_a_certificate_gets_in(certificates: Path, echo: Echo) -> None:
    tls = ServerTls(certificates / "server.pem", certificates / "server.key", certificates / "ca.pem")
    server = new_server(echo, tls=tls)
    await server.start()
    known = ClientTls(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
    async with connect(f"localhost:{server.port}", tls=known) as channel:
        assert await Caller(channel).unary() == b""
    for stranger in (ClientTls(certificates / "ca.pem"), None):
        async with connect(f"localhost:{server.port}", tls=stranger) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Caller(channel).unary()
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "cannot be reached" in readable(caught.value, target="the sender")
    await server.stop()


async def test_reflection_names_the_services() -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    from mailer.v1 import sender_pb2

    service = sender_pb2.DESCRIPTOR.services_by_name["Sender"]
    server = GrpcServer(
        [service],
        host="127.0.0.1",
        port=0,
        clock=SystemClock(),
        registry=CollectorRegistry(),
        with_reflection=True,
    )
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5)
        answers = [answer async for answer in call]
    await server.stop()
    names = {one.name for one in answers[0].list_services_response.service}
    assert {"mailer.v1.Sender", "grpc.health.v1.Health"} <= names
