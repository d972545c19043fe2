"""The end of what other conversations begin with, too."""

import pytest
from tests.fakes.letter_tokenizer import START, LetterTokenizer

from semantic.application.system_prefix import SystemPrefix
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import TokenId

SYSTEM = ChatMessage(Role.SYSTEM, "Be brief.")
QUESTION = ChatMessage(Role.USER, "Why?")
ASKED = Conversation((SYSTEM, QUESTION))
SHARED = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"


def prompt_of(tokenizer: LetterTokenizer, asked: Conversation) -> tuple[TokenId, ...]:
    return tokenizer.encode(tokenizer.render(asked))


def test_is_where_the_user_begins_to_speak() -> None:
    tokenizer = LetterTokenizer()
    end = SystemPrefix(tokenizer).end(ASKED, prompt_of(tokenizer, ASKED))
    assert end == len(tokenizer.encode(SHARED))


def test_is_the_same_for_every_conversation() -> None:
    tokenizer = LetterTokenizer()
    prefix = SystemPrefix(tokenizer)
    answered = ChatMessage(Role.ASSISTANT, "Because.")
    ends = {
        prefix.end(asked, prompt_of(tokenizer, asked))
        for asked in map(Conversation, ((SYSTEM, QUESTION), (SYSTEM, QUESTION, answered, QUESTION)))
    }
    assert len(ends) == 1


@pytest.mark.parametrize("messages", [(QUESTION,), (QUESTION, SYSTEM)])
def test_is_nowhere_without_a_system_message_in_front(messages: tuple[ChatMessage, ...]) -> None:
    tokenizer = LetterTokenizer()
    asked = Conversation(messages)
    assert SystemPrefix(tokenizer).end(asked, prompt_of(tokenizer, asked)) == 0


def test_is_never_beyond_what_the_prompt_begins_with() -> None:
    # The last two letters of the shared text may be one token with what follows.
    tokenizer = LetterTokenizer()
    prompt = (*tokenizer.encode(SHARED)[:-1], TokenId(3), TokenId(4))
    assert SystemPrefix(tokenizer).end(ASKED, prompt) == len(prompt) - 2


def test_is_nowhere_if_the_template_refuses_to_be_tried() -> None:
    class Strict(LetterTokenizer):
        def render(self, conversation: Conversation, *, answered: bool = False) -> str:
            raise InvalidRequestError(f"not these: {conversation}, {answered}", field="messages")

    assert SystemPrefix(Strict()).end(ASKED, (TokenId(1),)) == 0


def test_is_nowhere_if_all_questions_are_rendered_alike() -> None:
    class Deaf(LetterTokenizer):
        def render(self, conversation: Conversation, *, answered: bool = False) -> str:
            return "abc" * bool(conversation) + "d" * answered

    # Then the whole text is shared, and the prompt decides.
    assert SystemPrefix(Deaf()).end(ASKED, (TokenId(99),)) == 0


def test_does_not_tokenize_the_same_system_prompt_again() -> None:
    tokenizer = LetterTokenizer()
    prefix = SystemPrefix(tokenizer)
    prompt = prompt_of(tokenizer, ASKED)
    tokenizer.encoded.clear()
    for _ in range(3):
        prefix.end(ASKED, prompt)
    assert tokenizer.encoded == [SHARED]


def test_remembers_a_limited_number() -> None:
    tokenizer = LetterTokenizer()
    prefix = SystemPrefix(tokenizer)
    systems = [ChatMessage(Role.SYSTEM, str(number)) for number in range(100)]
    for system in (*systems, systems[0]):
        prefix.end(Conversation((system, QUESTION)), (TokenId(START),))
    assert len(tokenizer.encoded) == len(systems) + 1
