"""Responses by the official client against the real server: chains, streams, and a restart."""

from pathlib import Path

from bench.conversations import MODEL, SCRIPTS
from bench.server_process import ServerProcess
from openai import OpenAI
from openai.types.responses import Response
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
