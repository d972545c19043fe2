"""Responses by the official client against the real server: chains, streams, and a restart."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from bench.conversations import MODEL, SCRIPTS
from bench.server_process import ServerProcess
from openai import OpenAI
from openai.types.responses import FunctionToolParam, Response
from pydantic import BaseModel
from tests.e2e.conftest import StartServer, connect

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
HISTORY_TOKENS = 540
"""More than two blocks, and a tail."""


def cached_share(response: Response) -> float:
    assert response.usage is not None
    return response.usage.input_tokens_details.cached_tokens / response.usage.input_tokens


def test_answers_whole_and_streamed_alike(client: OpenAI) -> None:
    whole = client.responses.create(model=MODEL, input=QUESTION, temperature=0)
    with client.responses.stream(model=MODEL, input=QUESTION, temperature=0) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert whole.output_text == final.output_text == "".join(pieces) == ANSWER
    assert len(pieces) > 4
    assert final.usage is not None
    assert final.usage.output_tokens == len(pieces) + 1  # with the one that ends it


def test_counts_what_a_response_counts(client: OpenAI) -> None:
    counted = client.responses.input_tokens.count(model=MODEL, input=QUESTION)
    made = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=1)
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"


WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answered(client: OpenAI, *, stream: bool) -> None:
    def respond(**fields: Any) -> Response:
        if not stream:
            whole: Response = client.responses.create(
                model=MODEL, temperature=0, tools=[WEATHER], **fields
            )
            return whole
        # A stream that ends at the limit has no final response for the client's helper.
        *_, last = client.responses.create(
            model=MODEL, temperature=0, tools=[WEATHER], stream=True, **fields
        )
        found: Response = last.response
        return found

    asked = respond(
        input="What is the weather in Oslo?", tool_choice="required", parallel_tool_calls=False
    )
    calls = [item for item in asked.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["weather"] * len(calls)
    assert all(json.loads(call.arguments)["city"] in {"Oslo", "Rome"} for call in calls)
    answered = respond(
        input=[
            {"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}
            for call in calls
        ],
        previous_response_id=asked.id,
        tool_choice="none",
        max_output_tokens=8,
    )
    assert calls
    assert answered.output_text
    assert cached_share(answered) > 0.8


def test_a_text_is_held_to_its_form(client: OpenAI) -> None:
    class City(BaseModel):
        capital: bool
        name: Literal["Oslo", "Rome"]

    found = client.responses.parse(model=MODEL, input=QUESTION, text_format=City, temperature=0)
    assert isinstance(found.output_parsed, City)


def opening() -> str:
    return f"{SCRIPTS[0].page(HISTORY_TOKENS)}\n\n{SCRIPTS[0].first}"


def first_response(server: ServerProcess) -> Response:
    return connect(server).responses.create(
        model=MODEL, input=opening(), max_output_tokens=6, temperature=0
    )


def second_response(server: ServerProcess, first: Response) -> Response:
    return connect(server).responses.create(
        model=MODEL,
        input=SCRIPTS[0].then[0],
        previous_response_id=first.id,
        max_output_tokens=16,
        temperature=0,
    )


def test_a_chain_goes_on_from_memory(shared_server: ServerProcess) -> None:
    first = first_response(shared_server)
    assert cached_share(second_response(shared_server, first)) > 0.9


def test_a_killed_servers_chain_goes_on_from_disk(
    start_server: StartServer, tmp_path: Path, shared_server: ServerProcess
) -> None:
    store = tmp_path / "store"
    server = start_server(store)
    first = first_response(server)
    server.kill()
    server = start_server(store)
    second = second_response(server, first)
    assert cached_share(second) > 0.8
    reference = first_response(shared_server)
    assert second.output_text == second_response(shared_server, reference).output_text
    assert connect(server).responses.retrieve(second.id) == second
