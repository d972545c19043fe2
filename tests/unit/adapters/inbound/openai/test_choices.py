"""Several answers to one request."""

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam
from tests.fakes.answer_scripts import ScriptedChoices, thoughtful
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import Pause, ScriptedInference, Step, answer

from semantic.adapters.inbound.openai.side_by_side import AT_ONCE
from semantic.domain.chat import Started, TextDelta
from semantic.domain.errors import EngineError, PoolExhaustedError
from semantic.ports.inference import Inference

Serve = Callable[[Inference], str]

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
BODY: dict[str, object] = {"model": "scripted", "messages": HELLO}
PATIENCE_S = 5.0
THREE: list[tuple[Step, ...]] = [
    answer("a", "b", cached=4),
    (0.02, *answer("c")),
    thoughtful(calls=[("x", "f", ["{}"])]),
]


def post(base: str, **fields: object) -> httpx.Response:
    return httpx.post(f"{base}/v1/chat/completions", json={**BODY, **fields})


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n") if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_as_many_answers_come_as_are_asked_for(serve: Serve) -> None:
    body = post(serve(ScriptedChoices(scripts=THREE)), n=3).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in body["choices"]] == ["ab", "c", None]
    reasons = [choice["finish_reason"] for choice in body["choices"]]
    assert reasons == ["stop", "stop", "tool_calls"]


def test_a_prompt_that_is_shared_is_counted_once(serve: Serve) -> None:
    usage = post(serve(ScriptedChoices(scripts=THREE)), n=3).json()["usage"]
    assert usage["prompt_tokens"] == 10
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4
    assert usage["completion_tokens"] == 2 + 1 + 2
    assert usage["total_tokens"] == 15


@pytest.mark.parametrize(
    ("seed", "seeds"), [(None, [None] * 3), (5, [5, 6, 7]), (2**64 - 2, [2**64 - 2, 2**64 - 1, 0])]
)
def test_each_answer_has_a_seed_of_its_own(
    serve: Serve, seed: int | None, seeds: list[int | None]
) -> None:
    inference = ScriptedInference()
    post(serve(inference), n=3, seed=seed).raise_for_status()
    assert [request.sampling.seed for request in inference.requests] == seeds


def test_streamed_answers_are_told_apart_by_their_index(serve: Serve) -> None:
    response = post(serve(ScriptedChoices(scripts=THREE)), n=3, stream=True)
    told: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for chunk in chunks(response):
        told[chunk["choices"][0]["index"]].append(chunk["choices"][0])
    first, second, third = (told[index] for index in range(3))
    assert all(one[0]["delta"] == {"role": "assistant", "content": ""} for one in told.values())
    assert [one["delta"].get("content") for one in first] == ["", "a", "b", None]
    assert [one["delta"].get("content") for one in second] == ["", "c", None]
    ends = [one[-1]["finish_reason"] for one in (first, second, third)]
    assert ends == ["stop", "stop", "tool_calls"]
    assert response.text.rstrip().endswith("[DONE]")
    assert ["timings" in chunk for chunk in chunks(response)].count(True) == 1


def test_answers_are_begun_in_order(serve: Serve) -> None:
    scripts: list[tuple[Step, ...]] = [(0.3, *answer("a")), (0.15, *answer("b")), answer("c")]
    told = chunks(post(serve(ScriptedChoices(scripts=scripts)), n=3, stream=True))
    begun = [chunk["choices"][0] for chunk in told if "role" in chunk["choices"][0]["delta"]]
    assert [choice["index"] for choice in begun] == [0, 1, 2]
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in told]
    assert texts == ["", "", "", "c", None, "b", None, "a", None]


def test_the_usage_of_a_stream_comes_after_all_answers(serve: Serve) -> None:
    base = serve(ScriptedChoices(scripts=THREE))
    *_, last = chunks(post(base, n=3, stream=True, stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 15


def test_usage_may_stand_in_every_chunk(serve: Serve) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    base = serve(ScriptedInference(answer("a", "b", cached=4)))
    told = chunks(post(base, stream=True, stream_options=options))
    assert [chunk["usage"]["completion_tokens"] for chunk in told] == [0, 1, 2, 2, 2]
    assert {chunk["usage"]["prompt_tokens"] for chunk in told} == {10}


@pytest.mark.parametrize("stream", [False, True])
def test_more_answers_than_run_at_once_come_one_after_the_other(
    serve: Serve, *, stream: bool
) -> None:
    count = 3 * AT_ONCE + 1
    response = post(serve(ScriptedInference(answer("a"))), n=count, stream=stream)
    if stream:
        ends = [chunk["choices"][0] for chunk in chunks(response)]
        found = {choice["index"] for choice in ends if choice["finish_reason"]}
    else:
        found = {choice["index"] for choice in response.json()["choices"]}
    assert found == set(range(count))


def test_no_more_are_asked_for_at_once_than_may_run(serve: Serve) -> None:
    inference = ScriptedInference((Pause.FOREVER,))
    url = f"{serve(inference)}/v1/chat/completions"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json={**BODY, "n": 3 * AT_ONCE}, timeout=0.3)
    assert inference.cancelled.wait(PATIENCE_S)
    assert len(inference.requests) == AT_ONCE


def test_an_answer_that_fails_fails_all(serve: Serve, telemetry: RecordedTelemetry) -> None:
    failing = (Started(10, 0), TextDelta("x"), EngineError("boom"))
    scripts: list[tuple[Step, ...]] = [(Started(10, 0), Pause.FOREVER), failing]
    inference = ScriptedChoices(scripts=scripts)
    response = post(serve(inference), n=2)
    assert response.status_code == 503
    assert inference.cancelled.wait(PATIENCE_S)
    assert len(telemetry.events) == 1


class Narrow(ScriptedChoices):
    """There are `places`, and every second request finds none for a moment."""

    places = 1
    asked = 0

    async def generate(self, request: Any) -> Any:
        self.asked += 1
        if self.asked % 2 != self.places:
            raise PoolExhaustedError("full", retry_after_s=0.01)
        return await super().generate(request)


@pytest.mark.parametrize("stream", [False, True])
def test_answers_that_there_is_no_place_for_come_after_the_others(
    serve: Serve, *, stream: bool
) -> None:
    inference = Narrow(scripts=THREE)
    response = post(serve(inference), n=3, stream=stream)
    assert response.status_code == 200
    assert len(inference.requests) == 3
    assert inference.asked > 3
    if not stream:
        assert len(response.json()["choices"]) == 3


def test_without_any_place_all_are_refused(serve: Serve) -> None:
    inference = Narrow(scripts=THREE)
    inference.places = 0
    with openai.OpenAI(base_url=f"{serve(inference)}/v1", api_key="x", max_retries=0) as api:
        with pytest.raises(openai.RateLimitError):
            api.chat.completions.create(model="scripted", messages=HELLO, n=2, stream=True)
        assert not inference.requests
