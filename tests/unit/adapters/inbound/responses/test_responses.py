"""What comes of a request to Responses, as the official client and the wire see it."""

import json
import math
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import (
    ResponseCustomToolCall,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
)
from pydantic import BaseModel, TypeAdapter
from tests.fakes.memory_response_store import MemoryResponseStore
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import TIMINGS, Pause, ScriptedInference, answer
from tests.unit.adapters.inbound.conftest import Stage

from semantic.adapters.inbound.responses.shapes import ResponseTold
from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    Finished,
    FinishReason,
    GenerationEvent,
    Progress,
    ReasoningDelta,
    ScoredToken,
    Started,
    TextDelta,
    TokenText,
    Usage,
)
from semantic.domain.errors import ContextLengthError, EngineError, PoolExhaustedError
from semantic.domain.reuse import MissCause, Reuse

Plays = Callable[..., ScriptedInference]
Json = dict[str, Any]

MODEL = "scripted"
PATIENCE_S = 5.0
KEYS = (
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
)
"""All that Open Responses requires of a response."""

USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=7, reasoning_tokens=2)
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


def ended(reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(reason, USAGE, TIMINGS)


FULL: tuple[GenerationEvent, ...] = (
    Started(10, 4),
    ReasoningDelta("let me "),
    ReasoningDelta("see"),
    TextDelta("I will "),
    TextDelta("look."),
    CallStarted(0, "a1", "weather"),
    CallDelta(0, '{"city"'),
    CallDelta(0, ': "Oslo"}'),
    CallStarted(1, "a2", "weather"),
    CallDelta(1, "{}"),
    ended(FinishReason.TOOL_CALLS),
)


def post(stage: Stage, **fields: object) -> httpx.Response:
    return httpx.post(f"{stage.base}/v1/responses", json={"model": MODEL, "input": "hi", **fields})


def events(response: httpx.Response) -> list[Json]:
    """The data of a stream, whose lines name each event as its data does."""
    found, name = [], None
    for line in response.text.split("\n"):
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append(json.loads(line.removeprefix("data: ")))
            assert found[-1]["type"] == name
    return found


class TestWhole:
    def test_the_client_gets_a_whole_answer(self, plays: Plays, sdk: openai.OpenAI) -> None:
        plays(*answer("Hel", "lo", cached=4))
        response = sdk.responses.create(model=MODEL, input="hi")
        assert response.output_text == "Hello"
        assert response.status == "completed"
        assert response.usage is not None
        assert response.usage.input_tokens_details.cached_tokens == 4
        assert response.usage.input_tokens_details.cache_write_tokens == 6
        assert response.usage.total_tokens == 12

    def test_every_key_of_the_specification_is_there(self, plays: Plays, stage: Stage) -> None:
        plays(*answer("x"))
        body = post(stage).json()
        assert [key for key in KEYS if key not in body] == []
        assert (body["error"], body["incomplete_details"]) == (None, None)
        assert body["completed_at"] >= body["created_at"]

    def test_a_response_has_the_shape_that_is_documented(self, plays: Plays, stage: Stage) -> None:
        plays(*FULL)
        told = TypeAdapter(ResponseTold)
        for fields in ({}, {"tools": [WEATHER], "metadata": {"a": "b"}, "max_output_tokens": 5}):
            body = post(stage, **fields).json()
            assert told.validate_python(body, strict=True, extra="forbid") == body

    def test_what_was_asked_is_repeated(self, plays: Plays, stage: Stage) -> None:
        plays(*answer("x"))
        asked: dict[str, object] = {
            "instructions": "be brief",
            "max_output_tokens": 5,
            "temperature": 0.5,
            "top_p": 0.5,
            "metadata": {"a": "b"},
            "parallel_tool_calls": False,
            "tools": [WEATHER],
            "tool_choice": {"type": "function", "name": "weather"},
            "user": "me",
            "prompt_cache_key": "k",
            "safety_identifier": "s",
            "truncation": "disabled",
            "store": False,
        }
        body = post(stage, **asked, reasoning={"effort": "low", "summary": "auto"}).json()
        assert {key: body[key] for key in asked} == asked
        assert body["reasoning"] == {"effort": "low", "summary": "auto"}

    def test_reasoning_text_and_calls_are_items(self, plays: Plays, sdk: openai.OpenAI) -> None:
        plays(*FULL)
        reasoning, message, first, second = sdk.responses.create(model=MODEL, input="hi").output
        assert isinstance(reasoning, ResponseReasoningItem)
        assert [part.text for part in reasoning.content or ()] == ["let me see"]
        assert (reasoning.summary, reasoning.encrypted_content) == ([], None)
        assert isinstance(message, ResponseOutputMessage)
        assert isinstance(first, ResponseFunctionToolCall)
        assert (first.call_id, first.name, first.arguments) == (
            "call_a1",
            "weather",
            '{"city": "Oslo"}',
        )
        assert isinstance(second, ResponseFunctionToolCall)
        assert (second.call_id, second.arguments, second.status) == ("call_a2", "{}", "completed")

    def test_the_client_parses_a_form(self, plays: Plays, sdk: openai.OpenAI) -> None:
        class City(BaseModel):
            name: str

        inference = plays(*answer('{"name": "Oslo"}'))
        found = sdk.responses.parse(model=MODEL, input="hi", text_format=City)
        assert found.output_parsed == City(name="Oslo")
        form = inference.requests[0].json
        assert form is not None
        assert json.loads(form.schema or "")["properties"]["name"]["type"] == "string"

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_cut_answer_is_incomplete(self, plays: Plays, stage: Stage, *, stream: bool) -> None:
        plays(*answer("x", reason=FinishReason.LENGTH))
        response = post(stage, stream=stream)
        body = events(response)[-1]["response"] if stream else response.json()
        assert body["status"] == "incomplete"
        assert body["incomplete_details"] == {"reason": "max_output_tokens"}
        assert body["completed_at"] is None
        assert body["output"][0]["status"] == "incomplete"

    def test_an_answer_of_nothing_is_an_empty_message(
        self, plays: Plays, sdk: openai.OpenAI
    ) -> None:
        plays(Started(10, 0), TextDelta(""), ended())
        response = sdk.responses.create(model=MODEL, input="hi")
        assert (response.output_text, len(response.output)) == ("", 1)

    def test_a_prompt_that_is_only_warmed_is_answered_by_nothing(
        self, plays: Plays, stage: Stage
    ) -> None:
        inference = plays(Started(10, 0), ended())
        body = post(stage, prompt_cache_options={"prewarm": True}).json()
        assert (body["output"], body["status"]) == ([], "completed")
        assert inference.requests[0].sampling.max_tokens == 0

    def test_headers_tell_of_reuse_and_of_what_is_left_out(
        self, plays: Plays, stage: Stage
    ) -> None:
        reuse = Reuse(hot_tokens=3, warm_tokens=1, cause=MissCause.CONTINUED)
        plays(Started(10, 4, reuse), TextDelta("x"), ended())
        for stream in (False, True):
            headers = post(stage, stream=stream, tools=[WEATHER, {"type": "web_search"}]).headers
            assert headers["x-semantic-cached-tokens"] == "4"
            assert headers["x-semantic-miss-cause"] == "continued"
            assert headers["x-semantic-ignored"] == "tools.1:web_search"
        assert "x-semantic-ignored" not in post(stage).headers


class TestStream:
    def test_the_order_is_that_of_the_specification(self, plays: Plays, stage: Stage) -> None:
        plays(*FULL)
        found = events(post(stage, stream=True))
        assert [event["sequence_number"] for event in found] == list(range(len(found)))
        assert [str(event["type"]).removeprefix("response.") for event in found] == [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.delta",
            "reasoning_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ]

    def test_events_name_their_item_and_its_place(self, plays: Plays, stage: Stage) -> None:
        plays(*FULL)
        found = events(post(stage, stream=True))
        output = found[-1]["response"]["output"]
        for event in found:
            if "output_index" not in event:
                continue
            item = output[event["output_index"]]
            inside = event.get("item")
            told = inside["id"] if isinstance(inside, dict) else event["item_id"]
            assert told == item["id"]
        done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
        assert done == output

    def test_a_stream_says_what_a_whole_answer_says(self, plays: Plays, stage: Stage) -> None:
        plays(*FULL)
        whole = post(stage).json()
        streamed = events(post(stage, stream=True))[-1]["response"]
        text = json.dumps(streamed).replace(streamed["id"][5:], whole["id"][5:])
        assert json.loads(text) == whole

    def test_the_client_reads_a_stream(self, plays: Plays, sdk: openai.OpenAI) -> None:
        plays(*FULL)
        with sdk.responses.stream(model=MODEL, input="hi") as stream:
            deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
            final = stream.get_final_response()
        assert deltas == ["I will ", "look."]
        assert final.output_text == "I will look."
        assert [item.type for item in final.output] == [
            "reasoning",
            "message",
            "function_call",
            "function_call",
        ]

    def test_an_answer_in_progress_is_told_before_its_prompt_is_computed(
        self, plays: Plays, stage: Stage
    ) -> None:
        inference = plays(Started(10, 0), Pause.FOREVER)
        url, body = f"{stage.base}/v1/responses", {"model": MODEL, "input": "hi", "stream": True}
        with httpx.stream("POST", url, json=body) as response:
            lines = (line for line in response.iter_lines() if line.startswith("event: "))
            assert next(lines) == "event: response.created"
            assert next(lines) == "event: response.in_progress"
        assert inference.cancelled.wait(PATIENCE_S)

    def test_progress_is_a_comment(self, plays: Plays, stage: Stage) -> None:
        plays(Started(10, 0), Progress(10, 4), 0.15, *answer("x")[1:])
        response = post(stage, stream=True)
        assert ": prefill 4/10" in response.text.split("\n")
        assert ": ping" in response.text.split("\n")
        assert events(response)[-1]["type"] == "response.completed"


HALF, OTHER = TokenText(b"\xc3", -0.5), TokenText(b" a", -2.0)
SCORED = (
    Started(10, 0),
    TextDelta("H", (ScoredToken(TokenText(b"H", -0.25), (TokenText(b"H", -0.25), OTHER)),)),
    TextDelta("", (ScoredToken(HALF),)),
    TextDelta("é", (ScoredToken(TokenText(b"\xa9", -math.inf)),)),
    TextDelta("", (ScoredToken(OTHER),)),
    ended(),
)


class TestLogprobs:
    def test_every_token_has_an_entry(self, plays: Plays, stage: Stage) -> None:
        inference = plays(*SCORED)
        asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
        entries = post(stage, **asked).json()["output"][0]["content"][0]["logprobs"]
        assert [bytes(entry["bytes"]) for entry in entries] == [b"H", b"\xc3", b"\xa9", b" a"]
        assert [entry["logprob"] for entry in entries] == [-0.25, -0.5, -9999.0, -2.0]
        assert [one["token"] for one in entries[0]["top_logprobs"]] == ["H", " a"]
        assert inference.requests[0].sampling.logprobs == 2

    def test_a_streams_deltas_have_those_of_their_tokens(self, plays: Plays, stage: Stage) -> None:
        plays(*SCORED)
        found = events(post(stage, stream=True, include=["message.output_text.logprobs"]))
        deltas = [one for one in found if one["type"] == "response.output_text.delta"]
        told = [(one["delta"], len(one["logprobs"])) for one in deltas]
        assert told == [("H", 1), ("é", 2), ("", 1)]

    def test_nobody_is_told_who_does_not_ask(self, plays: Plays, stage: Stage) -> None:
        inference = plays(*answer("x"))
        assert post(stage).json()["output"][0]["content"][0]["logprobs"] == []
        assert inference.requests[0].sampling.logprobs is None


class TestTools:
    def test_a_namespaces_call_names_it(self, plays: Plays, sdk: openai.OpenAI) -> None:
        inference = plays(
            Started(10, 0),
            CallStarted(0, "a", "mcp__git__log"),
            CallDelta(0, "{}"),
            ended(FinishReason.TOOL_CALLS),
        )
        response = sdk.responses.create(
            model=MODEL,
            input="hi",
            tools=[
                {
                    "type": "namespace",
                    "name": "mcp__git__",
                    "description": "A repository.",
                    "tools": [
                        {"type": "function", "name": "log", "description": "Its history."},
                        {"type": "function", "name": "diff"},
                    ],
                }
            ],
        )
        call = response.output[0]
        assert isinstance(call, ResponseFunctionToolCall)
        assert (call.namespace, call.name) == ("mcp__git__", "log")
        log, diff = inference.requests[0].use.tools
        assert (log.name, log.description) == ("mcp__git__log", "A repository.\n\nIts history.")
        assert (diff.name, diff.description) == ("mcp__git__diff", "")

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_tool_with_free_input_gets_text(
        self, plays: Plays, sdk: openai.OpenAI, *, stream: bool
    ) -> None:
        inference = plays(
            Started(10, 0),
            CallStarted(0, "a", "patch"),
            CallDelta(0, '{"input": "a\\n'),
            CallDelta(0, 'b"}'),
            ended(FinishReason.TOOL_CALLS),
        )
        grammar = {"type": "grammar", "syntax": "regex", "definition": "[ab]"}
        tool = {"type": "custom", "name": "patch", "description": "Patches.", "format": grammar}
        if stream:
            with sdk.responses.stream(model=MODEL, input="hi", tools=[tool]) as found:  # type: ignore[list-item]  # plain JSON
                [call] = (item for item in found.get_final_response().output)
                assert isinstance(call, ResponseCustomToolCall)
        else:
            [made] = sdk.responses.create(model=MODEL, input="hi", tools=[tool]).output  # type: ignore[list-item]  # plain JSON
            assert isinstance(made, ResponseCustomToolCall)
            call = made
        assert isinstance(call, ResponseCustomToolCall)
        assert (call.name, call.input, call.call_id) == ("patch", "a\nb", "call_a")
        shown = inference.requests[0].use.tools[0]
        assert shown.description.startswith("Patches.")
        assert "[ab]" in shown.description
        assert json.loads(shown.parameters)["required"] == ["input"]

    def test_a_call_of_a_tool_that_was_not_offered_is_told_as_it_is(
        self, plays: Plays, stage: Stage
    ) -> None:
        plays(Started(10, 0), CallStarted(0, "a", "odd"), ended(FinishReason.TOOL_CALLS))
        item = post(stage).json()["output"][0]
        assert (item["type"], item["name"], item["arguments"]) == ("function_call", "odd", "")


class TestErrors:
    @pytest.mark.parametrize(
        ("refusal", "error", "code"),
        [
            (
                ContextLengthError("too long", field="input"),
                openai.BadRequestError,
                "context_length_exceeded",
            ),
            (PoolExhaustedError("full"), openai.RateLimitError, "pool_exhausted"),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_a_refusal_has_its_own_status_streamed_or_not(
        self,
        stage: Stage,
        sdk: openai.OpenAI,
        refusal: Exception,
        error: type[openai.APIStatusError],
        code: str,
        *,
        stream: bool,
    ) -> None:
        stage.playing = ScriptedInference(refusal=refusal)
        with pytest.raises(error) as caught:
            sdk.responses.create(model=MODEL, input="hi", stream=stream)
        assert caught.value.code == code

    def test_an_error_in_a_whole_answer_still_has_its_status(
        self, plays: Plays, stage: Stage
    ) -> None:
        inference = plays(Started(10, 0), TextDelta("x"), EngineError("boom"))
        response = post(stage)
        assert response.status_code == 503
        assert "boom" not in response.text
        assert inference.closed.wait(PATIENCE_S)

    def test_an_error_in_a_stream_ends_it_as_failed(self, plays: Plays, stage: Stage) -> None:
        inference = plays(Started(10, 0), TextDelta("x"), EngineError("boom"))
        *_, error, failed = events(post(stage, stream=True))
        assert (error["type"], error["code"]) == ("error", "engine_unavailable")
        assert failed["type"] == "response.failed"
        response = failed["response"]
        assert response["status"] == "failed"
        assert response["error"]["code"] == "server_error"
        assert response["output"][0]["content"][0]["text"] == "x"
        assert "boom" not in json.dumps(failed)
        assert inference.closed.wait(PATIENCE_S)

    @pytest.mark.parametrize(
        "script", [(Started(10, 0),), answer("x", reason=FinishReason.CANCELLED)]
    )
    def test_an_answer_without_its_own_end_is_no_complete_one(
        self, plays: Plays, stage: Stage, script: tuple[GenerationEvent, ...]
    ) -> None:
        plays(*script)
        assert post(stage).status_code == 503
        assert events(post(stage, stream=True))[-1]["type"] == "response.failed"

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_unforeseen_error_tells_the_client_nothing_of_the_inside(
        self, plays: Plays, stage: Stage, telemetry: RecordedTelemetry, *, stream: bool
    ) -> None:
        plays(Started(10, 0), RuntimeError("secret prompt"))
        assert "secret" not in post(stage, stream=stream).text
        assert "secret" not in str(telemetry.events)

    @pytest.mark.parametrize("script", [(Pause.FOREVER,), (Started(10, 0), Pause.FOREVER)])
    def test_a_client_that_waits_no_longer_stops_the_work(
        self, plays: Plays, stage: Stage, script: tuple[object, ...]
    ) -> None:
        inference = plays(*script)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{stage.base}/v1/responses", json={"model": MODEL, "input": "hi"}, timeout=0.2
            )
        assert inference.cancelled.wait(PATIENCE_S)


class TestDiagnosis:
    def compare(self, stage: Stage, other: str, **fields: object) -> object:
        options = {"comparison_response_id": other}
        body = post(stage, prompt_cache_options=options, **fields).json()
        return body["prompt_cache_diagnostics"]

    def test_a_prompt_that_goes_on_is_a_hit(self, plays: Plays, stage: Stage) -> None:
        reuse = Reuse(hot_tokens=4, cause=MissCause.CONTINUED)
        plays(Started(10, 4, reuse), TextDelta("x"), ended())
        assert self.compare(stage, post(stage).json()["id"]) == {"type": "cache_hit"}

    def test_what_differs_is_the_reason_of_a_miss(self, plays: Plays, stage: Stage) -> None:
        plays(Started(10, 4, Reuse(cause=MissCause.NEW)), TextDelta("x"), ended())
        other = post(stage).json()["id"]
        assert self.compare(stage, other, tools=[WEATHER]) == {
            "type": "cache_miss",
            "reason": "tools_changed",
            "cache_missed_tokens": 6,
            "comparison_reusable_tokens": 4,
        }
        assert self.compare(stage, other) == {"type": "unavailable"}

    def test_without_the_other_response_there_is_no_diagnosis(
        self, plays: Plays, stage: Stage
    ) -> None:
        plays(*answer("x"))
        assert self.compare(stage, "resp_0") == {"type": "comparison_response_not_found"}
        assert post(stage).json()["prompt_cache_diagnostics"] is None


def test_a_store_that_fails_costs_no_answer(
    plays: Plays, stage: Stage, store: MemoryResponseStore, telemetry: RecordedTelemetry
) -> None:
    plays(*answer("x"))
    store.failing = True
    body = post(stage).json()
    assert (body["status"], body["store"]) == ("completed", False)
    assert telemetry.names("warning") == ["response_not_kept"]
