import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import pytest
from tests.fakes.scripted_inference import Pause, ScriptedEvents, ScriptedInference

from semantic.adapters.inbound.event_stream import EventStreamResponse, close, while_connected

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATIENCE_S = 5.0


async def never() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def no_lines() -> AsyncIterator[str]:
    yield "never sent"


def test_events_are_closed_where_the_response_never_began() -> None:
    inference = ScriptedInference((Pause.FOREVER,))
    events = ScriptedEvents(inference)
    response = EventStreamResponse(no_lines(), events, ping_interval_s=1.0, grace_s=0.0)

    async def broken(_message: MutableMapping[str, Any]) -> None:
        raise ConnectionResetError

    async def run() -> None:
        with pytest.raises(ConnectionResetError):
            await response({"type": "http", "method": "POST"}, never, broken)

    asyncio.run(run())
    assert inference.cancelled.is_set()


def test_events_are_closed_though_the_caller_is_cancelled() -> None:
    inference = ScriptedInference((Pause.FOREVER,))

    async def run() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await close(ScriptedEvents(inference))

    asyncio.run(run())
    assert inference.closed.is_set()


def test_the_result_comes_through_while_the_client_stays() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(while_connected(never, work())) == 7


def test_an_error_comes_through_while_the_client_stays() -> None:
    async def work() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(while_connected(never, work()))


def test_work_is_cancelled_before_anything_else_once_the_client_is_gone() -> None:
    ended = []

    async def work() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")
        return 7

    async def leaves() -> MutableMapping[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    assert asyncio.run(while_connected(leaves, work())) is None
    assert ended == ["work"]


def test_work_is_cancelled_with_its_caller() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async def run() -> None:
        with anyio.move_on_after(0.02):
            await while_connected(never, work())

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
    assert ended == ["work"]
