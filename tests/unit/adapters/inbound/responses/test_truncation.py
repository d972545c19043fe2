import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest
from tests.fakes.scripted_inference import ScriptedInference, answer

from semantic.adapters.inbound.responses.truncation import admitted
from semantic.domain.chat import (
    NOBODY,
    Asker,
    ChatMessage,
    Conversation,
    GenerationEvent,
    GenerationRequest,
    RawPrompt,
    Role,
)
from semantic.domain.errors import ContextLengthError
from semantic.domain.ids import RequestId
from semantic.domain.sampling import SamplingParams
from semantic.ports.inference import ModelInfo

CONTEXT = 100
QUESTION_AND_ANSWER = 10


class ShortInference(ScriptedInference):
    """Serves a context of 100 tokens; a character is a token."""

    def __init__(self) -> None:
        super().__init__(answer("x"), serving=(ModelInfo("short", 0, CONTEXT),))

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        if tokens(request) + (request.sampling.max_tokens or 1) > CONTEXT:
            raise ContextLengthError("too long", field="messages")
        return await super().generate(request)

    async def count(
        self, asked: Conversation | RawPrompt, model: str, asker: Asker = NOBODY
    ) -> int:
        await super().count(asked, model, asker)
        assert isinstance(asked, Conversation)
        return length(asked)


def length(conversation: Conversation) -> int:
    return sum(len(message.content) for message in conversation.messages)


def tokens(request: GenerationRequest) -> int:
    assert isinstance(request.prompt, Conversation)
    return length(request.prompt)


def request_of(turns: int, *, last: int = 5, max_tokens: int | None = 5) -> GenerationRequest:
    """A system message of 5 tokens, so many turns of 10 with calls inside, and a question."""
    said = [ChatMessage(Role.SYSTEM, "system"[:5])]
    for number in range(turns):
        said += [
            ChatMessage(Role.USER, f"q{number:04}"),
            ChatMessage(Role.ASSISTANT, "a"),
            ChatMessage(Role.TOOL, "tt"),
            ChatMessage(Role.ASSISTANT, "aa"),
        ]
    said.append(ChatMessage(Role.USER, "?" * last))
    sampling = SamplingParams(max_tokens=max_tokens)
    return GenerationRequest(RequestId("r"), "short", Conversation(tuple(said)), sampling)


def admit(request: GenerationRequest, *, truncates: bool = True) -> Conversation:
    """The conversation that is admitted."""
    inference = ShortInference()
    asyncio.run(_admit(inference, request, truncates=truncates))
    prompt = inference.requests[0].prompt
    assert isinstance(prompt, Conversation)
    return prompt


async def _admit(inference: ShortInference, request: GenerationRequest, *, truncates: bool) -> None:
    events = await admitted(inference, request, truncates=truncates)
    await events.aclose()


def test_what_fits_stays_as_it_is() -> None:
    request = request_of(8)
    assert admit(request) == request.prompt


def test_what_does_not_fit_is_refused_unless_asked_otherwise() -> None:
    with pytest.raises(ContextLengthError):
        admit(request_of(20), truncates=False)


def test_whole_turns_go_from_the_oldest_on() -> None:
    request = request_of(20)
    found = admit(request).messages
    assert isinstance(request.prompt, Conversation)
    assert found[0] == request.prompt.messages[0]
    assert found[1].role is Role.USER
    assert found[1:] == request.prompt.messages[-len(found) + 1 :]
    assert sum(len(message.content) for message in found) + 5 <= CONTEXT


def test_the_next_requests_are_cut_in_the_same_place() -> None:
    firsts = [admit(request_of(turns)).messages[1].content for turns in range(9, 40)]
    cuts = 1 + sum(one != other for one, other in pairwise(firsts))
    # A quarter of the context is two and a half turns.
    assert cuts <= len(firsts) / 2
    assert firsts == sorted(firsts)


def test_room_is_left_for_an_answer_of_no_given_length() -> None:
    assert length(admit(request_of(30, max_tokens=None))) <= CONTEXT * 3 / 4


def test_all_but_the_last_question_may_go() -> None:
    found = admit(request_of(2, last=80))
    assert [message.role for message in found.messages] == [Role.SYSTEM, Role.USER]


def test_what_cannot_be_made_to_fit_is_refused() -> None:
    with pytest.raises(ContextLengthError):
        admit(request_of(2, last=101))
    with pytest.raises(ContextLengthError):
        admit(request_of(0, last=101))
