import asyncio
import threading
from collections import deque
from collections.abc import Callable

import pytest
from tests.fakes.observed_stores import PATIENCE_S, Gate
from tests.fakes.scripted_executor import ScriptedExecutor, hashed_choice
from tests.fakes.small_engine import SmallEngine, make_job

from semantic.application.engine_job import JobEvent, JobFailed, JobText
from semantic.application.job_events import JobEvents
from semantic.domain.errors import EngineError
from semantic.domain.ids import TokenId


def heard(engine: SmallEngine, begin: Callable[[JobEvents], object], count: int) -> list[JobEvent]:
    """The next `count` events."""

    async def listen() -> list[JobEvent]:
        events = JobEvents(engine.loop)
        begin(events)
        return [await events.next() for _ in range(count)]

    async def limited() -> list[JobEvent]:
        return await asyncio.wait_for(listen(), PATIENCE_S)

    return asyncio.run(limited())


def test_events_come_from_any_thread_in_order() -> None:
    sent = [JobText(str(number)) for number in range(50)]

    def begin(events: JobEvents) -> None:
        threading.Thread(target=lambda: deque(map(events.post, sent))).start()

    assert heard(SmallEngine(), begin, 50) == sent


def test_a_slow_engine_is_waited_for() -> None:
    engine = SmallEngine()
    with engine.running():

        def begin(events: JobEvents) -> None:
            asyncio.get_running_loop().call_later(1.2, events.post, JobText("late"))

        assert heard(engine, begin, 1) == [JobText("late")]


@pytest.mark.parametrize("told", [True, False])
def test_what_the_engine_said_last_comes_before_its_end(*, told: bool) -> None:
    engine = SmallEngine()
    with engine.running():
        pass

    def begin(events: JobEvents) -> None:
        if told:
            asyncio.get_running_loop().call_later(0.1, events.post, JobText("last"))

    first, *_ = found = heard(engine, begin, 1 + told)
    assert (first == JobText("last")) == told
    assert isinstance(found[-1], JobFailed)
    assert "ended" in str(found[-1].error)


def test_that_the_engine_hangs_is_heard() -> None:
    gate = Gate()

    def choose(tokens: tuple[TokenId, ...]) -> TokenId:
        gate.enter()
        return hashed_choice(tokens)

    engine = SmallEngine(ScriptedExecutor(choose=choose), step_timeout_s=5)
    gate.shut()
    with engine.running() as loop:
        loop.submit(make_job(1, (1,))[0])
        gate.wait_reached()
        engine.clock.now += 6
        (event,) = heard(engine, begin=repr, count=1)
        assert isinstance(event, JobFailed)
        assert isinstance(event.error, EngineError)
        assert "more than 5 s" in str(event.error)
        gate.open()


def test_who_speaks_after_the_loop_is_gone_hurts_nobody() -> None:
    kept: list[JobEvents] = []

    def begin(events: JobEvents) -> None:
        kept.append(events)
        events.post(JobText("x"))

    heard(SmallEngine(), begin, 1)
    kept[0].post(JobText("nobody hears it"))
