"""The official OpenAI client against the real server with the real model."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from bench.conversations import MODEL
from bench.server_process import ServerProcess
from openai import OpenAI

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
