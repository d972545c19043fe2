import pytest

from semantic.domain.chat import ChatMessage, Conversation, GenerationRequest, RawPrompt, Role
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


@pytest.mark.parametrize("prompt", ["", ()])
def test_an_empty_prompt_is_refused(prompt: str | tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        RawPrompt(prompt)
    assert caught.value.field == "prompt"


def test_a_prompt_holds_no_tokens_but_the_models() -> None:
    RawPrompt((0, 9)).check_vocabulary(10)
    RawPrompt("any text").check_vocabulary(0)
    with pytest.raises(InvalidRequestError, match="no token 10, only 0 to 9") as caught:
        RawPrompt((0, 10, 3)).check_vocabulary(10)
    assert caught.value.field == "prompt"
