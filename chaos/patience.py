"""Calls to services that are being killed: repeated until one of them answers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

T = TypeVar("T")

CALL_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.05
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


async def patiently(method: Callable[..., Awaitable[T]], request: object) -> T:
    """Return the answer of a method that may be repeated. Raises what a repetition cannot mend."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await method(request, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _PASSING:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)
