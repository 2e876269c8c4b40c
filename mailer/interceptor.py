"""What happens around every call of a server: errors become statuses, and nothing else reaches the client.

An exception nobody foresaw becomes INTERNAL without a word of it on the wire; its traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import Message
from grpc.aio import AbortError, ServerInterceptor, ServicerContext
from grpc_status import rpc_status

from mailer.database.errors import unavailable
from mailer.errors import MailerError, ResourceExhausted, Unavailable
from mailer.log import get_logger
from mailer.metrics import RpcMetrics
from mailer.validation import parse

log = get_logger(__name__)

# Quoted: generic only in the stubs.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "ServicerContext[Any, Any]"

# Part of the server, not of the business: never waited for at a stop, never refused because of one.
_HOUSEKEEPING = ("/grpc.health.", "/grpc.reflection.")
_COME_AGAIN = timedelta(seconds=1)
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Calls:
    """The calls at work: a stop waits for those that owe one answer, and ends streams of answers."""

    def __init__(self, *, most: int) -> None:
        """Start with none; there may be `most` that owe one answer, and as many streams beside them."""
        self._most = most
        self.stopping = asyncio.Event()
        self._answering = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._streams: set[asyncio.Task[Any]] = set()

    @property
    def answering(self) -> int:
        """Return how many calls owe their one answer."""
        return self._answering

    def are_too_many(self, *, stream: bool) -> bool:
        """Say whether there are more of a kind than there may be."""
        return (len(self._streams) if stream else self._answering) > self._most

    def begin(self, *, stream: bool) -> None:
        """Count the call of the current task."""
        if stream:
            task = asyncio.current_task()
            if task is not None:
                self._streams.add(task)
        else:
            self._answering += 1
            self._idle.clear()

    def end(self, *, stream: bool) -> None:
        """Count it out."""
        if stream:
            task = asyncio.current_task()
            if task is not None:
                self._streams.discard(task)
        else:
            self._answering -= 1
            if self._answering == 0:
                self._idle.set()

    async def idle(self) -> None:
        """Return once no call owes an answer."""
        await self._idle.wait()

    def end_streams(self) -> None:
        """Interrupt the streams that have not ended by themselves: clients see UNAVAILABLE and come back."""
        for task in tuple(self._streams):
            task.cancel()


class Outermost(ServerInterceptor):
    """The first interceptor: statuses, strict messages, counting, a log line per call."""

    def __init__(self, calls: Calls, metrics: RpcMetrics) -> None:
        """Take what is shared with the server."""
        self._calls = calls
        self._metrics = metrics
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the method's handler, wrapped; wrapping is done once per method."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_HOUSEKEEPING):
            return handler
        known = self._wrapped.get(method)
        if known is not None and known[0] is handler:
            return known[1]
        wrapped = _wrap(handler, method, self)
        # Unknown methods never come here, so the dictionary is as long as the contract.
        self._wrapped[method] = (handler, wrapped)
        return wrapped

    async def around(self, method: str, context: Context, call: Callable[[], Awaitable[Any]], *, stream: bool) -> Any:
        """Run one call to its end, whatever the end is."""
        name = method.rpartition("/")[2]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(rpc=name)
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        self._calls.begin(stream=stream)
        self._metrics.running.labels("stream" if stream else "call").inc()
        try:
            if self._calls.stopping.is_set():
                raise Unavailable("The server is stopping; nothing was done.", reason="STOPPING")
            if self._calls.are_too_many(stream=stream):
                raise ResourceExhausted(
                    f"Too many {'streams are open' if stream else 'calls are at work'}: nothing was done, try again.",
                    reason="TOO_MANY_CALLS",
                    retry_after=_COME_AGAIN,
                )
            return await call()
        except AbortError:
            code = _code_of(context)
            raise
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            if not (stream and self._calls.stopping.is_set()) or context.done():
                raise
            code = grpc.StatusCode.UNAVAILABLE
            await _abort(context, Unavailable("The server is stopping: ask again.", reason="STOPPING"))
        except Exception as error:
            known = error if isinstance(error, MailerError) else unavailable(error)
            if known is None:
                code = grpc.StatusCode.INTERNAL
                log.exception("a call failed with a bug of ours")
                await context.abort(code, "Internal error; the server's log tells more.")
            code = _STATUS_CODES[known.code]
            await _abort(context, known)
        finally:
            self._calls.end(stream=stream)
            self._metrics.running.labels("stream" if stream else "call").dec()
            self._metrics.handled.labels(name, code.name).inc()
            seconds = time.perf_counter() - started
            if not stream:
                self._metrics.seconds.labels(name).observe(seconds)
            log.debug("call", code=code.name, ms=round(seconds * 1000, 2), peer=context.peer())


def _wrap(handler: Handler, method: str, outer: Outermost) -> Handler:
    """Return a handler of the same kind whose request is parsed here: bad bytes are the client's error."""
    decode: Callable[[bytes], Message] = handler.request_deserializer  # type: ignore[assignment]
    function = _function_of(handler)

    def request_of(raw: Any) -> Any:
        return _each(raw, decode) if handler.request_streaming else parse(raw, decode)

    async def answer(raw: Any, context: Context) -> Any:
        async def call() -> Any:
            return await function(request_of(raw), context)

        return await outer.around(method, context, call, stream=False)

    async def stream(raw: Any, context: Context) -> None:
        async def call() -> None:
            answers = function(request_of(raw), context)
            if not inspect.isasyncgen(answers):
                await answers
                return
            try:
                async for item in answers:
                    await context.write(item)
            finally:
                await answers.aclose()

        await outer.around(method, context, call, stream=True)

    match handler.request_streaming, handler.response_streaming:
        case False, False:
            make, behaviour = grpc.unary_unary_rpc_method_handler, answer
        case True, False:
            make, behaviour = grpc.stream_unary_rpc_method_handler, answer
        case False, True:
            make, behaviour = grpc.unary_stream_rpc_method_handler, stream
        case _:
            make, behaviour = grpc.stream_stream_rpc_method_handler, stream
    # Without a deserializer grpc hands over the bytes.
    return make(behaviour, request_deserializer=None, response_serializer=handler.response_serializer)


def _function_of(handler: Any) -> Callable[..., Any]:
    """Return the servicer's method; the handler keeps it under the name of its kind."""
    kinds = (handler.unary_unary, handler.stream_unary, handler.unary_stream, handler.stream_stream)
    (function,) = filter(None, kinds)
    return function  # type: ignore[no-any-return]


async def _each(raws: AsyncIterator[bytes], decode: Callable[[bytes], Message]) -> AsyncIterator[Message]:
    async for raw in raws:
        yield parse(raw, decode)


async def _abort(context: Context, error: MailerError) -> None:
    await context.abort_with_status(rpc_status.to_status(error.to_status()))


def _code_of(context: Context) -> grpc.StatusCode:
    code: object = context.code()  # grpc keeps an int for a code it set itself
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN
