"""The official OpenAI client against the real server with the real model."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from bench.conversations import MODEL
from bench.server_process import ServerProcess
from openai import OpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionFunctionToolParam,
    ChatCompletionMessage,
    ChatCompletionMessageParam,
)

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."


def test_lists_the_model_that_is_served(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


def test_answers_at_once(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=20,
        temperature=0,
    )
    (choice,) = completion.choices
    assert choice.message.content == ANSWER
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == (
        completion.usage.prompt_tokens + completion.usage.completion_tokens
    )


def test_streams_the_same_answer_in_pieces_and_ends_with_usage(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=20,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [c.choices[0].delta.content for c in chunks if c.choices]
    assert "".join(piece or "" for piece in pieces) == ANSWER
    assert len(pieces) > 4
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 37


def test_a_long_prompt_tells_its_progress_and_every_answer_its_times(
    client: OpenAI, shared_server: ServerProcess
) -> None:
    question = "".join(f"{number} is a number. " for number in range(120)) + QUESTION
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 2,
        "temperature": 0,
        "stream": True,
    }
    answer = httpx.post(f"{shared_server.url}/chat/completions", json=body, timeout=120)
    lines = answer.text.split("\n")
    told = [at for at, line in enumerate(lines) if line.startswith(": prefill ")]
    first_text = next(at for at, line in enumerate(lines) if '"content":' in line[:-1] and at > 2)
    assert told
    assert told[0] < first_text
    computed, total = map(int, lines[told[0]].removeprefix(": prefill ").split("/"))
    assert 0 < computed < total
    *_, last = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=2, stream=True
    )
    timings = (last.model_extra or {})["timings"]
    assert timings["cache_n"] + timings["prompt_n"] == total
    assert timings["cache_n"] == total - 1
    assert 0 < timings["queued_ms"] < timings["ttft_ms"]


def test_a_second_turn_reuses_the_prompt_and_the_reply(client: OpenAI) -> None:
    headers = {"X-Agent-ID": "second-turn"}
    first = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Name a colour."}],
        max_tokens=8,
        temperature=0,
        extra_headers=headers,
    )
    second = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "Name a colour."},
            {"role": "assistant", "content": first.choices[0].message.content},
            {"role": "user", "content": "Another one."},
        ],
        max_tokens=8,
        temperature=0,
        extra_headers=headers,
    )
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens_details.cached_tokens == first.usage.total_tokens


def test_the_same_prompt_again_computes_one_token(client: OpenAI) -> None:
    def ask() -> openai.types.CompletionUsage:
        usage = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Say it again."}],
            max_tokens=4,
            temperature=0,
        ).usage
        assert usage is not None
        return usage

    ask()
    again = ask()
    assert again.prompt_tokens_details is not None
    assert again.prompt_tokens_details.cached_tokens == again.prompt_tokens - 1


def test_seeded_sampling_is_reproducible(client: OpenAI) -> None:
    def ask(seed: int) -> str | None:
        return (
            client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "Write something surprising."}],
                max_tokens=12,
                temperature=1.5,
                seed=seed,
            )
            .choices[0]
            .message.content
        )

    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(2, 6)}) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_tell_of_each_token_of_the_answer(client: OpenAI, *, stream: bool) -> None:
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": 3, "stream": stream}
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=20,
        temperature=0,
        stop=["Paris."],
        **fields,
    )
    choices = [part.choices[0] for part in answer] if stream else answer.choices
    entries = [entry for one in choices if one.logprobs for entry in one.logprobs.content or ()]
    text = b"".join(bytes(entry.bytes or ()) for entry in entries).decode()
    # The stop string begins inside the token that was the last to be shown, in part.
    assert text == "The capital of France is Paris"
    for entry in entries:
        assert entry.top_logprobs[0].token == entry.token
        assert [other.logprob for other in entry.top_logprobs] == sorted(
            (other.logprob for other in entry.top_logprobs), reverse=True
        )
        assert entry.logprob <= 0


WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


def completed(client: OpenAI, *, stream: bool, **fields: Any) -> ChatCompletion:
    """An answer, put together by the client where it is streamed."""
    fields = {"model": MODEL, "max_tokens": 80, "temperature": 0, **fields}
    if not stream:
        answer: ChatCompletion = client.chat.completions.create(**fields)
        return answer
    state = ChatCompletionStreamState()
    fields |= {"stream": True, "stream_options": {"include_usage": True}}
    for chunk in client.chat.completions.create(**fields):
        state.handle_chunk(chunk)
    return state.current_completion_snapshot


def said_again(message: ChatCompletionMessage) -> ChatCompletionMessageParam:
    """An answer as clients send it back."""
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments},
        }
        for call in message.tool_calls or ()
        if call.type == "function"
    ]
    told: Any = {"role": "assistant", "content": message.content, "tool_calls": calls}
    return told  # type: ignore[no-any-return] # built as the client would


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=str
)
def test_two_turns_with_a_call_of_a_tool(client: OpenAI, choice: Any, *, stream: bool) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "What is the weather in Rome?"}
    ]
    first = completed(
        client,
        stream=stream,
        messages=messages,
        tools=[WEATHER],
        tool_choice=choice,
        parallel_tool_calls=False,
    )
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls
    for call in message.tool_calls:
        assert call.type == "function"
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}
    results: list[ChatCompletionMessageParam] = [
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
        for call in message.tool_calls
    ]
    second = completed(
        client,
        stream=stream,
        messages=[*messages, said_again(message), *results],
        tools=[WEATHER],
        tool_choice="none",
        max_tokens=8,
    )
    assert second.choices[0].message.content
    assert not second.choices[0].message.tool_calls
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    # All of the first turn but what its template writes otherwise at the end.
    assert second.usage.prompt_tokens_details.cached_tokens is not None
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 8


def test_an_answer_has_the_form_that_is_asked_for(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "sure": {"type": "boolean"}},
        "required": ["colour", "sure"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = completed(
        client,
        stream=False,
        messages=[{"role": "user", "content": "Which colour is the sky?"}],
        response_format=form,
    )
    told = json.loads(answer.choices[0].message.content or "")
    assert told["colour"] in {"red", "blue"}
    assert isinstance(told["sure"], bool)


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers_differ_and_are_reproducible(client: OpenAI, *, stream: bool) -> None:
    def ask() -> list[str | None]:
        answer = completed(
            client,
            stream=stream,
            messages=[{"role": "user", "content": "Name an animal."}],
            temperature=1.5,
            max_tokens=8,
            seed=3,
            n=3,
        )
        return [choice.message.content for choice in answer.choices]

    first = ask()
    assert len(set(first)) > 1
    assert ask() == first


@pytest.mark.parametrize("stream", [False, True])
def test_texts_are_gone_on_with(client: OpenAI, *, stream: bool) -> None:
    fields: dict[str, Any] = {"stream": stream}
    answer = client.completions.create(
        model=MODEL,
        prompt=["The capital of France is", "One, two, three,"],
        max_tokens=2,
        temperature=0,
        **fields,
    )
    choices = [one for part in answer for one in part.choices] if stream else answer.choices
    texts = ["".join(one.text for one in choices if one.index == index) for index in range(2)]
    assert texts == [" Paris.", " four,"]


def test_a_text_is_scored_as_the_evaluation_harness_asks(client: OpenAI) -> None:
    def likelihood(text: str) -> tuple[float, bool]:
        answer = client.completions.create(
            model=MODEL, prompt=text, echo=True, logprobs=1, max_tokens=1, temperature=0, seed=1
        )
        scores = answer.choices[0].logprobs
        assert scores is not None
        assert scores.token_logprobs is not None
        assert scores.top_logprobs is not None
        assert scores.tokens is not None
        assert "".join(scores.tokens[:-1]) == text
        assert scores.token_logprobs[0] is None
        own, best = scores.token_logprobs[5:-1], scores.top_logprobs[5:-1]
        greedy = all(one == max(top.values()) for one, top in zip(own, best, strict=True))
        return sum(own), greedy

    right, right_is_greedy = likelihood("The capital of France is Paris")
    wrong, wrong_is_greedy = likelihood("The capital of France is Berlin")
    assert right > wrong
    assert (right_is_greedy, wrong_is_greedy) == (True, False)


def test_one_model_is_found_by_its_id(client: OpenAI) -> None:
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_bias_and_penalties_change_the_answer(client: OpenAI) -> None:
    def ask(**fields: Any) -> str:
        completion = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=12,
            temperature=0,
            **fields,
        )
        return completion.choices[0].message.content or ""

    assert ask(presence_penalty=0, logit_bias={}, extra_body={"top_k": 1}) == ANSWER
    banned = ask(logit_bias={"504": -100})  # "The"
    assert not banned.startswith("The")
    assert ask(frequency_penalty=2, presence_penalty=2) != ANSWER
    assert ask(extra_body={"repetition_penalty": 2.0}) != ANSWER
    with pytest.raises(openai.BadRequestError) as caught:
        ask(logit_bias={"49152": 1})
    assert caught.value.param == "logit_bias"


def test_stop_strings_end_the_answer_and_are_not_shown(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=20,
        temperature=0,
        stop=[" France"],
    )
    assert completion.choices[0].message.content == "The capital of"
    assert completion.choices[0].finish_reason == "stop"


def test_several_clients_at_once_are_all_answered(client: OpenAI) -> None:
    questions = [f"What is {n} plus {n}?" for n in range(6)]

    def ask(question: str) -> str | None:
        completion = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            max_tokens=8,
            temperature=0,
            extra_headers={"X-Agent-ID": question},
        )
        return completion.choices[0].message.content

    with ThreadPoolExecutor(len(questions)) as pool:
        assert all(pool.map(ask, questions))


def test_a_client_that_leaves_frees_the_server_and_its_work_is_kept(client: OpenAI) -> None:
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "user", "content": "Count from one to one hundred."}
    ]
    stream = client.chat.completions.create(
        model=MODEL, messages=messages, max_tokens=2000, temperature=0, stream=True
    )
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()
    # 2,000 tokens would take minutes; the next answer comes because that work was stopped.
    again = client.chat.completions.create(
        model=MODEL, messages=messages, max_tokens=1, temperature=0
    )
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens - 1


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"messages": []}, 400, "messages"),
        ({"model": "gpt-4"}, 404, "model"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"max_tokens": 9000}, 400, "max_tokens"),
        ({"messages": [{"role": "user", "content": "many words " * 9000}]}, 400, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, 400, "messages.0.role"),
    ],
    ids=["no messages", "model", "negative", "long answer", "long prompt", "role"],
)
def test_bad_input_names_the_field(
    client: OpenAI,
    shared_server: ServerProcess,
    change: dict[str, object],
    status: int,
    field: str,
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **change}
    settle(client)
    before = listing(shared_server.store)
    answer = httpx.post(f"{shared_server.url}/chat/completions", json=body, timeout=60)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == field
    assert listing(shared_server.store) == before


def settle(client: OpenAI) -> None:
    """Have everything written: what a named agent's answer waits for comes last in the queue."""
    client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "hi"}],
        max_tokens=1,
        temperature=0,
        extra_headers={"X-Agent-ID": "settle"},
    )


def listing(store: Path) -> list[tuple[str, int]]:
    """Every file of a store and when it was last changed."""
    files = (path for path in store.rglob("*") if path.is_file())
    return sorted((str(path), path.stat().st_mtime_ns) for path in files)


@pytest.mark.parametrize("name", ["x" * 10_000, "../../etc/passwd", ""])
def test_bad_agent_names_are_refused(shared_server: ServerProcess, name: str) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(
        f"{shared_server.url}/chat/completions", json=body, headers={"X-Agent-ID": name}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Agent-ID"
