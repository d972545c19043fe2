"""Answers as families write them, and as their own templates write them later: the ids stay."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from tests.fakes.families import FAMILIES, template_of
from tests.fakes.template_tokenizer import TemplateTokenizer
from tests.unit.domain.test_answer_parser import WEATHER, written

from semantic.application.answer_history import AnswerHistory
from semantic.domain.agent import Branch, Segment
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.ids import TokenId
from semantic.domain.stable_prompt import stable
from semantic.domain.tools import ToolCall, ToolUse

END = 0x110000
"""The token that ends a turn; all others are letters."""

GIVEN: dict[str, object] = {"city": "Rome", "days": 3}
CALL = ToolCall("a" * 24, WEATHER.name, json.dumps(GIVEN, separators=(",", ":")))
ASKED = stable(
    Conversation(
        (ChatMessage(Role.SYSTEM, "Be kind."), ChatMessage(Role.USER, "hello")),
        ToolUse((WEATHER,)),
    )
)
RESULT = ChatMessage(Role.TOOL, "sunny", call_id=CALL.id, name=CALL.name)
MORE = ChatMessage(Role.USER, "And?")

DROPS_REASONING = ("deepseek-r1", "deepseek-v3.1")
"""Templates that never show earlier reasoning, though it is thought aloud."""
MOVES = ("mistral-nemo", "mistral-small-3.2")
"""Templates that put tools before the last question, wherever that is."""
SPEAKS = sorted(FAMILIES.keys() - {"deepseek-r1", "glm-4.7", "qwen-3.5", *MOVES})
CALLS = sorted(FAMILIES.keys() - {"deepseek-r1", "glm-4.7", "mistral-nemo"})
THINKS = ["glm-4.5", "glm-4.7", "ministral-3", "qwen-3", "qwen-3.5"]


@dataclass
class FamilyTokenizer(TemplateTokenizer):
    """A family's template, over letters."""

    family: str = ""
    stop_tokens: frozenset[TokenId] = frozenset({END})

    def __post_init__(self) -> None:
        self.syntax = template_of(self.family).syntax

    @property
    def end(self) -> str:
        return FAMILIES[self.family][0]

    def render(self, conversation: Conversation, *, answered: bool = False) -> str:
        return template_of(self.family).render(conversation, answered=answered)

    def encode(self, text: str) -> tuple[TokenId, ...]:
        first, *others = text.split(self.end)
        return (*map(ord, first), *(i for part in others for i in (END, *map(ord, part))))

    def decode(self, tokens: Sequence[TokenId]) -> str:
        return "".join(self.end if token == END else chr(token) for token in tokens)


def replayed(family: str, raw: str, answer: ChatMessage, following: ChatMessage) -> str:
    """What of `raw` is known by its ids when the answer has come back, and something follows."""
    tokenizer = FamilyTokenizer(family=family)
    rendered = tokenizer.render(ASKED)
    (answer,) = stable(Conversation((answer,), ASKED.use)).messages
    ids = tokenizer.encode(raw + tokenizer.end)
    found = AnswerHistory(tokenizer).segments(ids, ASKED, rendered, answer)
    branch = Branch((Segment(rendered, tokenizer.encode(rendered)), *found))
    turns = Conversation((*ASKED.messages, answer, following), ASKED.use)
    count, _ = branch.common(tokenizer.render(turns))
    return "".join(segment.text for segment in branch.segments[1:count]).removesuffix(tokenizer.end)


def call_of(family: str) -> str:
    syntax = template_of(family).syntax
    return written(syntax, (WEATHER, GIVEN)).removesuffix("<|call|><|start|>assistant")


def thought_in(family: str) -> str:
    """Reasoning, in other spaces than templates write it with."""
    syntax = template_of(family).syntax
    assert syntax.reasoning
    begun = FamilyTokenizer(family=family).render(ASKED).rstrip().endswith(syntax.reasoning.begin)
    return f"{'' if begun else syntax.reasoning.begin}I think so. {syntax.reasoning.end}\n\n"


@pytest.mark.parametrize("family", SPEAKS)
def test_text_is_replayed(family: str) -> None:
    # Qwen 3 writes an answer otherwise once another question follows: its alias is out of date.
    raw = "Hello there." + ("" if family == "qwen-3" else " ")
    if template_of(family).syntax.harmony:
        raw = f"<|channel|>final<|message|>{raw}"
    assert replayed(family, raw, ChatMessage(Role.ASSISTANT, "Hello there."), MORE) == raw


@pytest.mark.parametrize("family", CALLS)
def test_a_call_is_replayed(family: str) -> None:
    raw = call_of(family)
    assert replayed(family, raw, ChatMessage(Role.ASSISTANT, "", calls=(CALL,)), RESULT) == raw


@pytest.mark.parametrize("family", THINKS)
def test_reasoning_before_a_call_is_replayed_if_it_comes_back(family: str) -> None:
    raw = thought_in(family) + call_of(family)
    answer = ChatMessage(Role.ASSISTANT, "", reasoning="I think so.", calls=(CALL,))
    assert replayed(family, raw, answer, RESULT) == raw


@pytest.mark.parametrize("family", THINKS)
def test_reasoning_that_was_left_out_is_not_taken_for_the_answer(family: str) -> None:
    raw = thought_in(family) + call_of(family)
    tokenizer = FamilyTokenizer(family=family)
    rendered = tokenizer.render(ASKED)
    answer = ChatMessage(Role.ASSISTANT, "", reasoning="I think so.", calls=(CALL,))
    ids = tokenizer.encode(raw + tokenizer.end)
    found = AnswerHistory(tokenizer).segments(ids, ASKED, rendered, answer)
    without = ChatMessage(Role.ASSISTANT, "", calls=(CALL,))
    turns = Conversation((*ASKED.messages, without, RESULT), ASKED.use)
    branch = Branch((Segment(rendered, tokenizer.encode(rendered)), *found))
    assert branch.common(tokenizer.render(turns))[0] <= 1


@pytest.mark.parametrize("family", DROPS_REASONING)
def test_what_a_template_never_shows_again_has_no_alias(family: str) -> None:
    tokenizer = FamilyTokenizer(family=family)
    answer = ChatMessage(Role.ASSISTANT, "Hello.", reasoning="I think so.")
    ids = tokenizer.encode(thought_in(family) + "Hello." + tokenizer.end)
    found = AnswerHistory(tokenizer).segments(ids, ASKED, tokenizer.render(ASKED), answer)
    assert [one.alias for one in found] == [None]
