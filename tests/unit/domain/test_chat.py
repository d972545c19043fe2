import pytest

from semantic.domain.chat import ChatMessage, Conversation, GenerationRequest, Role
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import RequestId
from semantic.domain.sampling import SamplingParams


def request_of(*messages: ChatMessage) -> GenerationRequest:
    return GenerationRequest(
        request_id=RequestId("r"),
        model="m",
        prompt=Conversation(messages),
        sampling=SamplingParams(),
    )


def test_a_request_is_anonymous_unless_it_names_an_agent() -> None:
    assert request_of(ChatMessage(Role.USER, "hi")).agent is None


def test_a_request_without_messages_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="must not be empty") as caught:
        request_of()
    assert caught.value.field == "messages"
