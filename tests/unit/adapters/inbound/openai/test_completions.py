"""Completions: prompts that no template touches, shown and scored if asked for."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from tests.fakes.scripted_inference import TIMINGS, ScriptedInference, answer

from semantic.domain.chat import (
    Finished,
    FinishReason,
    GenerationEvent,
    PromptScored,
    RawPrompt,
    ScoredToken,
    Started,
    TextDelta,
    TokenText,
    Usage,
)
from semantic.domain.errors import ContextLengthError
from semantic.domain.sampling import SamplingParams
from semantic.ports.inference import Inference

Serve = Callable[[Inference], str]


def post(base: str, **fields: object) -> httpx.Response:
    body = {"model": "scripted", "prompt": "Once", **fields}
    return httpx.post(f"{base}/v1/completions", json=body)


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n") if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def scored(data: bytes, logprob: float, *others: tuple[bytes, float]) -> ScoredToken:
    top = tuple(TokenText(*other) for other in others)
    return ScoredToken(TokenText(data, logprob), top)


ECHOED: tuple[GenerationEvent, ...] = (
    Started(3, 0),
    PromptScored(b"On", (scored(b"c", -0.5, (b"c", -0.5)), scored(b"e", -2.0, (b"x", -0.25)))),
    TextDelta("", (scored(b"\xe2", -1.0, (b"\xe2", -1.0)),)),
    TextDelta("\N{EURO SIGN}", (scored(b"\x82\xac", -0.75, (b"\x82\xac", -0.75)),)),
    Finished(FinishReason.LENGTH, Usage(3, 0, 2), TIMINGS),
)
LOGPROBS: dict[str, list[Any]] = {
    "tokens": ["On", "c", "e", "bytes:\\xe2", "bytes:\\x82\\xac"],
    "token_logprobs": [None, -0.5, -2.0, -1.0, -0.75],
    "top_logprobs": [
        None,
        {"c": -0.5},
        {"x": -0.25, "e": -2.0},
        {"bytes:\\xe2": -1.0},
        {"bytes:\\x82\\xac": -0.75},
    ],
    "text_offset": [0, 2, 3, 4, 4],
}


def test_a_whole_answer_has_every_key(serve: Serve) -> None:
    body = post(serve(ScriptedInference(answer(" upon", " a")))).json()
    assert body.pop("id").startswith("cmpl-")
    assert body.pop("timings")["predicted_n"] == 2
    assert body == {
        "object": "text_completion",
        "created": 1_800_000_000,
        "model": "scripted",
        "system_fingerprint": None,
        "choices": [{"index": 0, "text": " upon a", "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_what_is_not_said_is_as_specified(serve: Serve) -> None:
    inference = ScriptedInference()
    post(serve(inference)).raise_for_status()
    assert inference.requests[0].prompt == RawPrompt("Once")
    assert inference.requests[0].sampling == SamplingParams(max_tokens=16)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        (["a", "b"], ["a", "b"]),
        ([5, 6, 7], [(5, 6, 7)]),
        ([[5, 6], [7]], [(5, 6), (7,)]),
    ],
)
def test_prompts_come_in_four_forms(
    serve: Serve, prompt: object, prompts: list[str | tuple[int, ...]]
) -> None:
    inference = ScriptedInference()
    body = post(serve(inference), prompt=prompt, n=2).json()
    asked = [prompt for prompt in prompts for _ in range(2)]
    found = [request.prompt for request in inference.requests]
    assert [one.prompt for one in found if isinstance(one, RawPrompt)] == asked
    assert [choice["index"] for choice in body["choices"]] == list(range(len(asked)))
    assert body["usage"]["prompt_tokens"] == 10 * len(prompts)
    assert body["usage"]["completion_tokens"] == 2 * len(asked)


def test_the_client_gets_a_stream(serve: Serve) -> None:
    base = serve(ScriptedInference(answer(" upon", " a")))
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as api:
        stream = api.completions.create(
            model="scripted", prompt="Once", stream=True, stream_options={"include_usage": True}
        )
        *told, end, usage = list(stream)
    assert "".join(chunk.choices[0].text for chunk in told) == " upon a"
    assert end.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens == 12


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_prompt_is_shown_without_computing_scores(serve: Serve, *, stream: bool) -> None:
    inference = ScriptedInference(answer(" upon"))
    response = post(serve(inference), echo=True, stream=stream)
    told = chunks(response) if stream else [response.json()]
    assert "".join(chunk["choices"][0]["text"] for chunk in told) == "Once upon"
    assert inference.requests[0].sampling.prompt_logprobs is None


@pytest.mark.parametrize("stream", [False, True])
def test_the_text_of_ids_is_shown_as_their_scores_tell_it(serve: Serve, *, stream: bool) -> None:
    inference = ScriptedInference(ECHOED)
    response = post(serve(inference), prompt=[1, 2, 3], echo=True, stream=stream)
    told = chunks(response) if stream else [response.json()]
    assert "".join(chunk["choices"][0]["text"] for chunk in told) == "Once\N{EURO SIGN}"
    assert all(chunk["choices"][0]["logprobs"] is None for chunk in told)
    assert inference.requests[0].sampling == SamplingParams(max_tokens=16, prompt_logprobs=0)


def test_a_prompt_is_scored_with_the_answer(serve: Serve) -> None:
    inference = ScriptedInference(ECHOED)
    [choice] = post(serve(inference), echo=True, logprobs=1).json()["choices"]
    assert choice["logprobs"] == LOGPROBS
    assert choice["text"] == "Once\N{EURO SIGN}"
    assert inference.requests[0].sampling == SamplingParams(
        max_tokens=16, logprobs=1, prompt_logprobs=1
    )


def test_scores_are_streamed_piece_by_piece(serve: Serve) -> None:
    told = chunks(post(serve(ScriptedInference(ECHOED)), echo=True, logprobs=1, stream=True))
    found = [chunk["choices"][0]["logprobs"] for chunk in told]
    assert [len(one["tokens"]) for one in found] == [3, 1, 1, 0]
    joined = {key: [each for one in found for each in one[key]] for key in found[0]}
    assert joined == LOGPROBS


def test_scores_of_an_answer_alone_begin_with_it(serve: Serve) -> None:
    [choice] = post(serve(ScriptedInference(ECHOED)), logprobs=0).json()["choices"]
    assert choice["logprobs"]["tokens"] == LOGPROBS["tokens"][3:]
    assert choice["logprobs"]["text_offset"] == [0, 0]
    assert choice["text"] == "\N{EURO SIGN}"


def test_a_likelihood_is_read_from_what_follows_the_context(serve: Serve) -> None:
    """As lm-eval's harness does it: all but the context, and but the token that had to be asked."""
    inference = ScriptedInference(
        (*ECHOED[:2], TextDelta("!", (scored(b"!", -0.1, (b"!", -0.1)),)), ECHOED[-1])
    )
    fields = {"prompt": [[1, 2, 3]], "max_tokens": 1, "temperature": 0, "seed": 1234}
    [choice] = post(serve(inference), logprobs=1, echo=True, **fields).json()["choices"]
    context = 1
    likelihoods = choice["logprobs"]["token_logprobs"][context:-1]
    best = choice["logprobs"]["top_logprobs"][context:-1]
    assert likelihoods == [-0.5, -2.0]
    greedy = [own == max(top.values()) for own, top in zip(likelihoods, best, strict=True)]
    assert greedy == [True, False]
    assert inference.requests[0].sampling == SamplingParams(
        max_tokens=1,
        temperature=0.0,
        seed=1234,
        logprobs=1,
        prompt_logprobs=1,
        # A token that ends the text must be told of as well: one is left out of account.
        ignore_eos=True,
    )


def test_a_prompt_may_be_scored_without_any_answer(serve: Serve) -> None:
    inference = ScriptedInference(
        (*ECHOED[:2], Finished(FinishReason.LENGTH, Usage(3, 0, 0), TIMINGS))
    )
    [choice] = post(serve(inference), echo=True, logprobs=1, max_tokens=0).json()["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Once", "length")
    assert choice["logprobs"]["tokens"] == ["On", "c", "e"]
    assert inference.requests[0].sampling.max_tokens == 0


@pytest.mark.parametrize(
    "fields", [{"best_of": 1}, {"best_of": 2, "n": 2}, {"suffix": ""}, {"suffix": None}]
)
def test_values_that_change_nothing_are_accepted(serve: Serve, fields: dict[str, object]) -> None:
    post(serve(ScriptedInference()), **fields).raise_for_status()


def test_an_error_names_the_prompt(serve: Serve) -> None:
    refusal = ContextLengthError("too long", field="messages")
    response = post(serve(ScriptedInference(refusal=refusal)))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"


def test_one_model_is_found_by_its_id(serve: Serve) -> None:
    base = serve(ScriptedInference())
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as api:
        assert api.models.retrieve("scripted").owned_by == "semantic"
        with pytest.raises(openai.NotFoundError) as caught:
            api.models.retrieve("some/other")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
