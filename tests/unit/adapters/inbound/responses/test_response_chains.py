"""Going on from a response that is kept here, and looking after what is kept."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import openai
import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_response_store import MemoryResponseStore
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import TIMINGS, ScriptedInference, answer
from tests.unit.adapters.inbound.conftest import LIMITS, Stage, served

from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.caller import Caller
from semantic.application.response_history import ResponseHistory
from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    ChatMessage,
    Conversation,
    Finished,
    FinishReason,
    ReasoningDelta,
    Role,
    Started,
    Usage,
)
from semantic.domain.ids import DEFAULT_TENANT, TenantId
from semantic.domain.stored_response import ResponseId
from semantic.domain.tools import ToolCall

Plays = Callable[..., ScriptedInference]

MODEL = "scripted"
CALLS = (
    Started(10, 0),
    ReasoningDelta("hm"),
    CallStarted(0, "a1", "get"),
    CallDelta(0, "{}"),
    Finished(FinishReason.TOOL_CALLS, Usage(10, 0, 3, 1), TIMINGS),
)
TOOL = {"type": "function", "name": "get", "parameters": {"type": "object"}, "strict": False}


def messages(inference: ScriptedInference) -> tuple[ChatMessage, ...]:
    """The last request's."""
    prompt = inference.requests[-1].prompt
    assert isinstance(prompt, Conversation)
    return prompt.messages


def test_a_chain_is_the_whole_conversation(plays: Plays, sdk: openai.OpenAI) -> None:
    plays(*CALLS)
    first = sdk.responses.create(model=MODEL, input="hi", instructions="a", tools=[TOOL])  # type: ignore[list-item]  # plain JSON
    plays(*answer("fine"))
    second = sdk.responses.create(
        model=MODEL,
        input=[{"type": "function_call_output", "call_id": "call_a1", "output": "42"}],
        previous_response_id=first.id,
    )
    inference = plays(*answer("bye"))
    third = sdk.responses.create(
        model=MODEL, input="thanks", instructions="b", previous_response_id=second.id
    )
    assert messages(inference) == (
        # What was said before goes on, not what was instructed.
        ChatMessage(Role.SYSTEM, "b"),
        ChatMessage(Role.USER, "hi"),
        ChatMessage(Role.ASSISTANT, "", reasoning="hm", calls=(ToolCall("a1", "get", "{}"),)),
        ChatMessage(Role.TOOL, "42", call_id="a1", name="get"),
        ChatMessage(Role.ASSISTANT, "fine"),
        ChatMessage(Role.USER, "thanks"),
    )
    assert third.previous_response_id == second.id


def test_a_streamed_answer_can_be_gone_on_from(plays: Plays, sdk: openai.OpenAI) -> None:
    inference = plays(*answer("Hello"))
    with sdk.responses.stream(model=MODEL, input="hi") as stream:
        first = stream.get_final_response()
    sdk.responses.create(model=MODEL, input="more", previous_response_id=first.id)
    assert [message.content for message in messages(inference)] == ["hi", "Hello", "more"]


def test_one_response_can_be_gone_on_from_twice(plays: Plays, sdk: openai.OpenAI) -> None:
    inference = plays(*answer("Hello"))
    first = sdk.responses.create(model=MODEL, input="hi")
    for text in ("left", "right"):
        sdk.responses.create(model=MODEL, input=text, previous_response_id=first.id)
        assert [message.content for message in messages(inference)] == ["hi", "Hello", text]


def test_a_chain_of_thousands_is_read_once_each(
    plays: Plays, sdk: openai.OpenAI, store: MemoryResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 2000
    inference = plays(*answer("y"))
    first = sdk.responses.create(model=MODEL, input="x")
    made = store.load(DEFAULT_TENANT, ResponseId(first.id))
    assert made is not None
    for number in range(1, length):
        made = replace(made, id=ResponseId(f"resp_chain{number}"), previous=made.id)
        store.save(made)
    loads = 0
    load = store.load

    def counted(*asked: object) -> object:
        nonlocal loads
        loads += 1
        return load(*asked)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(store, "load", counted)
    sdk.responses.create(model=MODEL, input="end", previous_response_id=made.id, store=False)
    assert loads == length
    assert len(messages(inference)) == 2 * length + 1


class TestAgent:
    def test_a_chain_that_names_nobody_is_kept_without_an_agent(
        self, plays: Plays, sdk: openai.OpenAI
    ) -> None:
        inference = plays(*answer("x"))
        first = sdk.responses.create(model=MODEL, input="1")
        second = sdk.responses.create(model=MODEL, input="2", previous_response_id=first.id)
        sdk.responses.create(model=MODEL, input="3", previous_response_id=second.id, store=False)
        assert [request.agent for request in inference.requests] == [None] * 3
        assert [request.keeps for request in inference.requests] == [True, True, False]

    def test_who_is_named_is_remembered_by_that_name(
        self, plays: Plays, sdk: openai.OpenAI
    ) -> None:
        inference = plays(*answer("x"))
        sdk.responses.create(model=MODEL, input="1", extra_headers={"X-Agent-ID": "me"})
        agent = inference.requests[0].agent
        assert agent is not None
        assert agent.name == "me"

    def test_who_keeps_nothing_stays_nameless(self, plays: Plays, sdk: openai.OpenAI) -> None:
        inference = plays(*answer("x"))
        sdk.responses.create(model=MODEL, input="1", store=False)
        assert inference.requests[0].agent is None


class TestKept:
    def test_a_response_is_shown_as_it_was_given(self, plays: Plays, sdk: openai.OpenAI) -> None:
        plays(*CALLS)
        made = sdk.responses.create(model=MODEL, input="hi", tools=[TOOL])  # type: ignore[list-item]  # plain JSON
        assert sdk.responses.retrieve(made.id) == made

    def test_what_was_new_is_listed_page_by_page(self, plays: Plays, sdk: openai.OpenAI) -> None:
        plays(*answer("x"))
        first = sdk.responses.create(model=MODEL, input="before")
        made = sdk.responses.create(
            model=MODEL,
            input=[{"role": "user", "content": str(number)} for number in range(5)],
            previous_response_id=first.id,
        )
        page = sdk.responses.input_items.list(made.id, limit=2)
        assert page.has_next_page()
        newest_first = [text_of(item) for item in page]
        assert newest_first == ["4", "3", "2", "1", "0"]
        oldest_first = sdk.responses.input_items.list(made.id, limit=3, order="asc")
        assert [text_of(item) for item in oldest_first] == ["0", "1", "2", "3", "4"]

    def test_a_deleted_response_is_gone_and_so_is_what_goes_on_from_it(
        self, plays: Plays, sdk: openai.OpenAI
    ) -> None:
        plays(*answer("x"))
        first = sdk.responses.create(model=MODEL, input="1")
        second = sdk.responses.create(model=MODEL, input="2", previous_response_id=first.id)
        sdk.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(first.id)
        assert sdk.responses.retrieve(second.id).id == second.id
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.responses.create(model=MODEL, input="3", previous_response_id=second.id)
        assert caught.value.code == "previous_response_not_found"

    def test_what_is_not_to_be_kept_is_not(self, plays: Plays, sdk: openai.OpenAI) -> None:
        plays(*answer("x"))
        made = sdk.responses.create(model=MODEL, input="1", store=False)
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(made.id)

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_answer_that_failed_is_not_kept(
        self, plays: Plays, stage: Stage, store: MemoryResponseStore, *, stream: bool
    ) -> None:
        plays(Started(10, 0), ValueError("boom"))
        before = store.count()
        httpx.post(
            f"{stage.base}/v1/responses", json={"model": MODEL, "input": "x", "stream": stream}
        )
        assert store.count() == before

    @pytest.mark.parametrize("name", ["resp_0", "", "%00", "..", "%C3%A9", "a" * 5000])
    def test_unknown_names_are_not_found(self, stage: Stage, http: httpx.Client, name: str) -> None:
        base = f"{stage.base}/v1/responses/{name or '%20'}"
        for method, url in (
            ("GET", base),
            ("DELETE", base),
            ("GET", f"{base}/input_items"),
            ("POST", f"{base}/cancel"),
        ):
            assert http.request(method, url).status_code == 404

    def test_an_unknown_previous_response_is_told_in_the_words_of_openai(
        self, plays: Plays, stage: Stage
    ) -> None:
        plays(*answer("x"))
        body = {"model": MODEL, "input": "hi", "previous_response_id": "resp_0"}
        for path in ("", "/input_tokens"):
            response = httpx.post(f"{stage.base}/v1/responses{path}", json=body)
            assert response.status_code == 400
            assert response.json()["error"] == {
                "message": "Previous response with id 'resp_0' not found.",
                "type": "invalid_request_error",
                "param": "previous_response_id",
                "code": "previous_response_not_found",
            }

    def test_a_failing_store_is_no_unknown_response(
        self, plays: Plays, stage: Stage, store: MemoryResponseStore
    ) -> None:
        plays(*answer("x"))
        store.failing = True
        body = {"model": MODEL, "input": "hi", "previous_response_id": "resp_0"}
        assert httpx.post(f"{stage.base}/v1/responses", json=body).status_code == 500
        assert httpx.get(f"{stage.base}/v1/responses/resp_0").status_code == 500

    def test_what_cannot_be_done_is_refused(self, plays: Plays, sdk: openai.OpenAI) -> None:
        plays(*answer("x"))
        made = sdk.responses.create(model=MODEL, input="1")
        with pytest.raises(openai.BadRequestError, match="synchronous"):
            sdk.responses.cancel(made.id)
        with pytest.raises(openai.BadRequestError, match="compaction"):
            sdk.responses.compact(model=MODEL)
        with pytest.raises(openai.BadRequestError, match="background"):
            sdk.responses.retrieve(made.id, stream=True)
        for wrong in ({"limit": 0}, {"limit": 101}, {"after": "item_0"}):
            with pytest.raises(openai.BadRequestError):
                sdk.responses.input_items.list(made.id, **wrong)


class TestReferences:
    def test_a_reference_stands_for_the_item(self, plays: Plays, sdk: openai.OpenAI) -> None:
        plays(*CALLS)
        first = sdk.responses.create(model=MODEL, input="hi", tools=[TOOL])  # type: ignore[list-item]  # plain JSON
        asked = sdk.responses.input_items.list(first.id).data[0]
        call = first.output[1]
        inference = plays(*answer("x"))
        second = sdk.responses.create(
            model=MODEL,
            input=[
                {"type": "item_reference", "id": str(asked.id)},
                {"type": "item_reference", "id": str(call.id)},
                {"type": "function_call_output", "call_id": "call_a1", "output": "42"},
            ],
        )
        assert messages(inference) == (
            ChatMessage(Role.USER, "hi"),
            ChatMessage(Role.ASSISTANT, "", calls=(ToolCall("a1", "get", "{}"),)),
            ChatMessage(Role.TOOL, "42", call_id="a1", name="get"),
        )
        # What is kept stands by itself: the first may go.
        sdk.responses.delete(first.id)
        sdk.responses.create(model=MODEL, input="on", previous_response_id=second.id)
        assert len(messages(inference)) == 5

    def test_an_item_of_the_chain_is_found_by_the_name_that_its_client_gave(
        self, plays: Plays, sdk: openai.OpenAI
    ) -> None:
        inference = plays(*answer("x"))
        mine = {"type": "message", "role": "user", "content": "mine", "id": "msg_mine"}
        first = sdk.responses.create(model=MODEL, input=[mine])  # type: ignore[list-item]  # plain JSON
        sdk.responses.create(
            model=MODEL,
            input=[{"type": "item_reference", "id": "msg_mine"}],
            previous_response_id=first.id,
        )
        assert [message.content for message in messages(inference)] == ["mine", "x", "mine"]


class TestCounting:
    def test_the_same_prompt_is_counted(self, plays: Plays, sdk: openai.OpenAI) -> None:
        inference = plays(*answer("x"))
        made = sdk.responses.create(model=MODEL, input="hi")
        counted = sdk.responses.input_tokens.count(
            model=MODEL,
            input="on",
            previous_response_id=made.id,
            tools=[TOOL],  # type: ignore[list-item]  # plain JSON
        )
        sdk.responses.create(model=MODEL, input="on", previous_response_id=made.id, tools=[TOOL])  # type: ignore[list-item]  # plain JSON
        assert counted.input_tokens == 10
        assert inference.counted == [(inference.requests[-1].prompt, MODEL)]

    def test_what_is_served_is_meant_if_no_model_is_named(
        self, plays: Plays, sdk: openai.OpenAI
    ) -> None:
        inference = plays(*answer("x"))
        sdk.responses.input_tokens.count(input="hi")
        assert [model for _, model in inference.counted] == [MODEL]


@pytest.fixture(scope="module")
def forgetful() -> Iterator[str]:
    """A server that keeps no responses."""
    app = create_app(ScriptedInference(), RecordedTelemetry(), FixedClock(), LIMITS)
    with served(app) as base:
        yield base


def test_a_server_may_keep_nothing(forgetful: str) -> None:
    url, body = f"{forgetful}/v1/responses", {"model": MODEL, "input": "hi"}
    made = httpx.post(url, json=body).json()
    assert (made["status"], made["store"]) == ("completed", False)
    assert httpx.get(f"{url}/{made['id']}").status_code == 404
    assert httpx.delete(f"{url}/{made['id']}").status_code == 404
    again = httpx.post(url, json={**body, "previous_response_id": made["id"]})
    assert again.json()["error"]["code"] == "previous_response_not_found"


def text_of(item: object) -> str:
    content = getattr(item, "content", [])
    return "".join(part.text for part in content)


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    """A server for several tenants, who say themselves who they are."""
    telemetry = RecordedTelemetry()
    history = ResponseHistory(MemoryResponseStore(), telemetry)
    app = create_app(ScriptedInference(), telemetry, FixedClock(), LIMITS, history=history)

    async def let_in(request: Request, call_next: RequestResponseEndpoint) -> Response:
        request.state.caller = Caller(TenantId(request.headers["X-Tenant"]))
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=let_in)
    with served(app) as base:
        yield base


def test_tenants_know_nothing_of_each_others_responses(shared: str) -> None:
    url, body = f"{shared}/v1/responses", {"model": MODEL, "input": "hi"}
    mine, theirs = {"X-Tenant": "a"}, {"X-Tenant": "b"}
    made = httpx.post(url, json=body, headers=mine).json()["id"]
    on = {**body, "previous_response_id": made}
    reference = {
        **body,
        "input": [{"type": "item_reference", "id": made.replace("resp", "msg") + "_0"}],
    }
    assert httpx.get(f"{url}/{made}", headers=theirs).status_code == 404
    assert httpx.delete(f"{url}/{made}", headers=theirs).status_code == 404
    assert httpx.post(url, json=on, headers=theirs).status_code == 400
    assert httpx.post(url, json=reference, headers=theirs).status_code == 400
    assert httpx.post(url, json=on, headers=mine).status_code == 200
    assert httpx.post(url, json=reference, headers=mine).status_code == 200
