import asyncio
from http import HTTPStatus

import httpx
import pytest
from tests.fakes.guarded_app import CHAT, GuardedApp, key
from tests.fakes.memory_api_keys import MemoryApiKeys
from tests.fakes.scripted_inference import Pause, ScriptedInference, answer

from semantic.adapters.inbound.rate_limit import duration
from semantic.domain.api_key import ApiKey, KeyLimits

TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS


TWO_A_MINUTE = KeyLimits(2, 0)


def guarded(*keys: ApiKey, limits: KeyLimits = TWO_A_MINUTE) -> GuardedApp:
    return GuardedApp(MemoryApiKeys(*keys), limits)


async def at_work(app: GuardedApp, count: int) -> None:
    """Wait until so many requests have got through."""
    while len(app.inference.requests) < count:  # noqa: ASYNC110 - the fake tells nobody
        await asyncio.sleep(0)


def test_a_key_is_used_as_often_a_minute_as_its_limit_says() -> None:
    app = guarded(key("alpha"))
    assert [app.ask(shown="alpha").status_code for _ in range(4)] == [200, 200, 429, 429]
    assert len(app.inference.requests) == 2


def test_the_minute_moves() -> None:
    app = guarded(key("alpha"))
    app.ask(shown="alpha")
    app.clock.now += 40
    app.ask(shown="alpha")
    app.clock.now += 19
    assert app.ask(shown="alpha").status_code == TOO_MANY
    app.clock.now += 1
    assert app.ask(shown="alpha").status_code == HTTPStatus.OK
    assert app.ask(shown="alpha").status_code == TOO_MANY


def test_who_is_refused_is_told_when_to_come_back_and_who_comes_then_is_let_in() -> None:
    app = guarded(key("alpha"))
    app.ask(shown="alpha")
    app.clock.now += 12.5
    app.ask(shown="alpha")
    refused = app.ask(shown="alpha")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["Retry-After"] == "48"
    app.clock.now += 48
    assert app.ask(shown="alpha").status_code == HTTPStatus.OK


def test_every_answer_to_a_limited_key_tells_what_is_left() -> None:
    app = guarded(key("alpha"))
    first, second, refused = (app.ask(shown="alpha") for _ in range(3))
    models = app.ask("GET", "/v1/models", shown="alpha")
    missing = app.ask("GET", "/v1/nothing", shown="alpha")
    answers = [first, second, refused, models, missing]
    for one, left in zip(answers, "10000", strict=True):
        told = {name: value for name, value in one.headers.items() if "ratelimit" in name}
        assert told == {
            "x-ratelimit-limit-requests": "2",
            "x-ratelimit-remaining-requests": left,
            "x-ratelimit-reset-requests": "1m0s",
            "anthropic-ratelimit-requests-limit": "2",
            "anthropic-ratelimit-requests-remaining": left,
            "anthropic-ratelimit-requests-reset": "2027-01-15T08:01:01Z",
        }


def test_a_key_without_a_limit_is_told_of_none() -> None:
    app = guarded(key("alpha", limits=KeyLimits(0)))
    answers = [app.ask(shown="alpha") for _ in range(5)]
    assert {one.status_code for one in answers} == {200}
    assert not any("ratelimit" in name for name in answers[0].headers)


def test_each_key_has_its_own_minute() -> None:
    app = guarded(key("alpha"), key("beta", limits=KeyLimits(1)))
    assert [app.ask(shown="beta").status_code for _ in range(2)] == [200, 429]
    assert [app.ask(shown="alpha").status_code for _ in range(3)] == [200, 200, 429]


def test_looking_costs_nothing() -> None:
    app = guarded(key("alpha"))
    looks = [app.ask("GET", "/v1/models", shown="alpha").status_code for _ in range(5)]
    assert set(looks) == {200}
    assert app.ask(shown="alpha").status_code == HTTPStatus.OK


def test_counting_tokens_has_a_minute_of_its_own() -> None:
    app = guarded(key("alpha"))
    for _ in range(3):
        app.ask("POST", "/v1/messages/count_tokens", shown="alpha")
    assert app.ask("POST", "/v1/messages/count_tokens", shown="alpha").status_code == TOO_MANY
    assert app.ask(shown="alpha").status_code == HTTPStatus.OK


def test_without_keys_there_are_no_limits() -> None:
    app = guarded()
    assert {app.ask().status_code for _ in range(5)} == {200}


@pytest.mark.parametrize("per_minute", [0, 10])
def test_a_key_has_so_many_answers_at_once_and_the_next_when_one_has_ended(
    per_minute: int,
) -> None:
    stuck = ScriptedInference(script=(answer("a")[0], Pause.FOREVER))
    app = guarded(key("alpha"), key("beta"), limits=KeyLimits(per_minute, 2))
    app.inference.script = stuck.script

    async def run() -> None:
        asking = [asyncio.create_task(app.asked(shown="alpha")) for _ in range(2)]
        await at_work(app, 2)
        refused: httpx.Response = await app.asked(shown="alpha")
        assert refused.status_code == TOO_MANY
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert refused.headers["Retry-After"] == "1"
        assert ("x-ratelimit-remaining-requests" in refused.headers) == (per_minute > 0)
        # Another's answers, and what asks for none, are not counted.
        app.inference.script = answer("b")
        assert (await app.asked(shown="beta")).status_code == HTTPStatus.OK
        assert (await app.asked("GET", "/v1/models", shown="alpha")).status_code == HTTPStatus.OK
        asking[0].cancel()  # its client has left
        await asyncio.wait({asking[0]})
        assert (await app.asked(shown="alpha")).status_code == HTTPStatus.OK
        asking[1].cancel()
        await asyncio.wait({asking[1]})

    asyncio.run(run())


def test_an_answer_that_fails_is_at_work_no_more() -> None:
    app = guarded(key("alpha"), limits=KeyLimits(0, 1))
    app.inference.refusal = KeyError("unforeseen")
    statuses = [app.ask(shown="alpha").status_code for _ in range(3)]
    assert statuses == [500, 500, 500]


def test_who_is_refused_for_asking_at_once_has_used_up_nothing() -> None:
    app = guarded(key("alpha"), limits=KeyLimits(2, 1))
    app.inference.script = (answer("a")[0], Pause.FOREVER)

    async def run() -> None:
        asking = asyncio.create_task(app.asked("POST", CHAT, "alpha"))
        await at_work(app, 1)
        for _ in range(3):
            refused = await app.asked(shown="alpha")
            assert refused.headers["x-ratelimit-remaining-requests"] == "1"
        asking.cancel()
        await asyncio.wait({asking})

    asyncio.run(run())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0ms"), (0.0005, "1ms"), (0.12, "120ms"), (1, "1s"), (1.2, "2s")),
        *((59.9, "1m0s"), (60, "1m0s"), (360, "6m0s")),
    ],
)
def test_a_duration_is_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
