"""Fields of other APIs and servers, where an API has none of that name: refused, not ignored."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from semantic.adapters.inbound.anthropic.message_request import MessageRequest
from semantic.adapters.inbound.responses.request import ResponseRequest

MESSAGES: dict[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "hi"}],
}
RESPONSES: dict[str, Any] = {"model": "m", "input": "hi"}
APIS = [(MessageRequest, MESSAGES), (ResponseRequest, RESPONSES)]
CHANGING: dict[str, Any] = {
    "stop": ["x"],
    "n": 2,
    "logit_bias": {"1": 5},
    "response_format": {"type": "json_object"},
    "max_completion_tokens": 5,
    "ignore_eos": True,
    "stop_token_ids": [1],
    "min_tokens": 4,
    "bad_words": ["x"],
    "grammar": "root ::= x",
    "guided_json": {"type": "object"},
    "guided_regex": "x",
    "guided_choice": ["x"],
    "guided_grammar": "x",
    "structured_outputs": {"json": {}},
    "prompt_logprobs": 1,
}
NEUTRAL: dict[str, Any] = {
    "stop": [],
    "n": 1,
    "logit_bias": {},
    "response_format": {"type": "text"},
    "ignore_eos": False,
    "min_tokens": 0,
    "guided_json": None,
}
MESSAGES_ONLY: dict[str, Any] = {
    "seed": 1,
    "frequency_penalty": 0.5,
    "presence_penalty": 1,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
}


def refused(api: type[BaseModel], body: dict[str, Any]) -> tuple[object, ...]:
    with pytest.raises(ValidationError) as caught:
        api.model_validate(body)
    (error,) = caught.value.errors()
    return error["loc"]


@pytest.mark.parametrize("field", CHANGING)
@pytest.mark.parametrize(("api", "body"), APIS, ids=("messages", "responses"))
def test_what_would_change_the_answer_is_refused_by_name(
    api: type[BaseModel], body: dict[str, Any], field: str
) -> None:
    assert refused(api, body | {field: CHANGING[field]}) == (field,)


@pytest.mark.parametrize(("api", "body"), APIS, ids=("messages", "responses"))
def test_what_would_not_is_taken(api: type[BaseModel], body: dict[str, Any]) -> None:
    api.model_validate(body | NEUTRAL)


@pytest.mark.parametrize("field", MESSAGES_ONLY)
def test_messages_have_no_more_ways_to_choose_tokens(field: str) -> None:
    assert refused(MessageRequest, MESSAGES | {field: MESSAGES_ONLY[field]}) == (field,)


def test_responses_have_no_max_tokens() -> None:
    assert refused(ResponseRequest, RESPONSES | {"max_tokens": 5}) == ("max_tokens",)


def test_seeds_may_be_negative() -> None:
    assert ResponseRequest.model_validate(RESPONSES | {"seed": -1}).sampling().seed == 2**64 - 1
