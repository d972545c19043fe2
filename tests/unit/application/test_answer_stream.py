import asyncio
from collections.abc import Coroutine

import pytest

from semantic.application.answer_stream import AnswerStream
from semantic.domain.chat import Finished, FinishReason, GenerationEvent, TextDelta, Timings, Usage
from semantic.domain.errors import EngineError

END = Finished(FinishReason.STOP, Usage(1, 0, 1), Timings(0.0, 0.0, 0.0))


class Bench:
    def __init__(self) -> None:
        self.cancelled = 0
        self.stream = AnswerStream(self.cancel)

    def cancel(self) -> None:
        self.cancelled += 1


def run(work: Coroutine[object, object, None]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(work, 10)

    asyncio.run(limited())


def test_events_come_in_order_and_end() -> None:
    async def use() -> None:
        bench = Bench()
        for event in (TextDelta("a"), TextDelta("b"), END):
            bench.stream.put(event)
        events: list[GenerationEvent] = [event async for event in bench.stream]
        assert events == [TextDelta("a"), TextDelta("b"), END]
        await bench.stream.aclose()
        assert bench.cancelled == 0

    run(use())


def test_an_error_ends_it_once() -> None:
    async def use() -> None:
        bench = Bench()
        bench.stream.put(TextDelta("a"))
        bench.stream.fail(EngineError("boom"))
        assert await anext(bench.stream) == TextDelta("a")
        with pytest.raises(EngineError, match="boom"):
            await anext(bench.stream)
        with pytest.raises(StopAsyncIteration):
            await anext(bench.stream)
        await bench.stream.aclose()
        assert bench.cancelled == 0

    run(use())


@pytest.mark.parametrize("num_taken", [0, 1, 2])
def test_closing_it_early_cancels_once(num_taken: int) -> None:
    async def use() -> None:
        bench = Bench()
        for event in (TextDelta("a"), TextDelta("b"), END):
            bench.stream.put(event)
        for _ in range(num_taken):
            await anext(bench.stream)
        await bench.stream.aclose()
        await bench.stream.aclose()
        assert bench.cancelled == 1
        with pytest.raises(StopAsyncIteration):
            await anext(bench.stream)

    run(use())


def test_throwing_into_it_cancels_and_raises() -> None:
    async def use() -> None:
        bench = Bench()
        with pytest.raises(KeyError):
            await bench.stream.athrow(KeyError("k"))
        assert bench.cancelled == 1

    run(use())


def test_a_reader_waits_for_the_next_event() -> None:
    async def use() -> None:
        bench = Bench()
        reader = asyncio.create_task(anext(bench.stream))
        await asyncio.sleep(0)
        bench.stream.put(TextDelta("late"))
        assert await reader == TextDelta("late")

    run(use())


def test_closing_it_ends_a_reader_that_waits() -> None:
    async def use() -> None:
        bench = Bench()
        reader = asyncio.create_task(anext(bench.stream, None))
        await asyncio.sleep(0)
        await bench.stream.aclose()
        assert await reader is None

    run(use())
