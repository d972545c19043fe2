import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import TypeVar

import pytest
from tests.fakes.observed_stores import PATIENCE_S, Gate

from semantic.application.text_work import TextWork
from semantic.domain.errors import EngineError

Result = TypeVar("Result")


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    made.shut()
    yield made
    made.open()


def run(work: Coroutine[object, object, Result]) -> Result:
    async def limited() -> Result:
        return await asyncio.wait_for(work, PATIENCE_S)

    return asyncio.run(limited())


def test_what_comes_of_it_is_told_from_another_thread() -> None:
    assert run(TextWork().done(threading.get_ident)) != threading.get_ident()


def test_an_error_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        run(TextWork().done(lambda: 1 // 0))


def test_a_short_text_passes_a_long_one(gate: Gate) -> None:
    async def use() -> str:
        work = TextWork()
        long = asyncio.create_task(work.done(gate.enter))
        await asyncio.to_thread(gate.wait_reached)
        short = await work.done(lambda: "short")
        assert not long.done()
        gate.open()
        await long
        return short

    assert run(use()) == "short"


def test_nobody_waits_for_ever(gate: Gate) -> None:
    with pytest.raises(EngineError, match=r"for 0\.05 s"):
        run(TextWork(timeout_s=0.05).done(gate.enter))


def test_what_nobody_waits_for_any_more_is_not_begun(gate: Gate) -> None:
    done: list[str] = []

    async def use() -> None:
        work = TextWork()
        busy = [asyncio.create_task(work.done(gate.enter)) for _ in range(4)]
        for _ in busy:
            await asyncio.to_thread(gate.wait_reached)
        given_up = asyncio.create_task(work.done(lambda: done.append("given up")))
        wanted = asyncio.create_task(work.done(lambda: done.append("wanted")))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await asyncio.sleep(0)  # the thread's work is cancelled after the task
        gate.open()
        await wanted
        await asyncio.gather(*busy)

    run(use())
    assert done == ["wanted"]
