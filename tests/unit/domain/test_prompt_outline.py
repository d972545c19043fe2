"""Which section of a conversation has changed, and what could have been reused."""

from dataclasses import replace

import pytest

from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.prompt_outline import (
    Expectation,
    Outline,
    closest,
    expected,
    outline,
    reusable_of,
    told,
)
from semantic.domain.reuse import MissCause, Reuse
from semantic.domain.tools import Tool, ToolCall, ToolUse

SYSTEM = ChatMessage(Role.SYSTEM, "Be brief.")
ASK = ChatMessage(Role.USER, "hello")
SAY = ChatMessage(Role.ASSISTANT, "hi", calls=(ToolCall("1", "look", "{}"),))
MORE = ChatMessage(Role.USER, "more")


def of(*messages: ChatMessage, tokens: int = 10, tools: tuple[str, ...] = ()) -> Outline:
    use = ToolUse(tuple(map(Tool, tools)))
    return outline(Conversation(messages, use), range(tokens))


def change(now: Outline, before: Outline) -> tuple[MissCause, int | None]:
    found = expected(now, before)
    return found.cause, found.message


def test_what_follows_an_answer_continues_it() -> None:
    found = expected(of(SYSTEM, ASK, SAY, MORE, tokens=30), of(SYSTEM, ASK, tokens=20))
    assert found == Expectation(19, 20, MissCause.CONTINUED)


def test_tools_come_before_the_system_and_that_before_messages() -> None:
    before = of(SYSTEM, ASK, SAY, MORE)
    other = replace(SYSTEM, content="Be long.")
    now = of(other, ASK, ASK, MORE, tools=("look",))
    assert change(now, before) == (MissCause.TOOLS_CHANGED, None)
    assert change(replace(now, tools=before.tools), before) == (MissCause.SYSTEM_CHANGED, 0)


@pytest.mark.parametrize(
    "changed",
    [
        replace(SAY, content="ho"),
        replace(SAY, reasoning="hm"),
        replace(SAY, calls=()),
        replace(SAY, calls=(ToolCall("1", "look", '{"a": 1}'),)),
        replace(SAY, role=Role.USER),
    ],
)
def test_the_first_message_that_differs_is_named(changed: ChatMessage) -> None:
    now = replace(of(SYSTEM, ASK, changed, MORE), tokens=(*range(5), *range(50, 55)))
    assert change(now, of(SYSTEM, ASK, SAY, MORE)) == (MissCause.MESSAGES_CHANGED, 2)


def test_the_ids_of_calls_make_no_difference() -> None:
    again = replace(SAY, calls=(ToolCall("other", "look", "{}"),))
    assert of(ASK, again) == of(ASK, SAY)


def test_what_shares_no_message_is_new() -> None:
    assert change(of(SYSTEM, ASK), of(SYSTEM, MORE))[0] is MissCause.NEW


def test_of_several_the_likeliest_is_taken_and_among_equals_the_last() -> None:
    first, second = of(SYSTEM, ASK, tokens=5), of(SYSTEM, ASK, tokens=6)
    longer, strange = of(SYSTEM, ASK, SAY, tokens=7), of(SYSTEM, MORE, tokens=8)
    now = of(SYSTEM, ASK, SAY, MORE)
    assert closest(now, [longer, first, second, strange]) is longer
    assert closest(now, [first, second, strange]) is second
    assert closest(now, [strange]) is strange
    assert closest(now, []) is None


@pytest.mark.parametrize(
    ("same", "known", "prompt", "reusable"),
    [(5, 9, 9, 5), (9, 9, 20, 8), (9, 20, 9, 8), (0, 0, 1, 0)],
)
def test_one_token_is_always_computed(same: int, known: int, prompt: int, reusable: int) -> None:
    assert reusable_of(same, known, prompt) == reusable


class TestTold:
    KNOWN = Expectation(8, 9, MissCause.SYSTEM_CHANGED, 0)

    def test_all_that_could_be_had_is_explained_by_what_changed(self) -> None:
        expected = Reuse(5, 3, 9, MissCause.SYSTEM_CHANGED, 0)
        assert told(self.KNOWN, 8, 3, MissCause.RECOMPUTED) == expected

    def test_less_is_explained_by_the_engine(self) -> None:
        assert told(self.KNOWN, 4, 3, MissCause.LATE) == Reuse(1, 3, 9, MissCause.LATE)

    def test_or_else_it_was_given_up(self) -> None:
        assert told(self.KNOWN, 4, 0, None) == Reuse(4, 0, 9, MissCause.EVICTED)

    def test_more_than_was_expected_is_no_miss(self) -> None:
        assert told(self.KNOWN, 12, 0, None).difference == 12

    @pytest.mark.parametrize(
        ("cached", "obstacle", "cause"),
        [
            (0, None, MissCause.NEW),
            (4, None, MissCause.CONTINUED),
            (4, MissCause.ALIGNED, MissCause.ALIGNED),
        ],
    )
    def test_where_nothing_is_known_the_engine_knows_best(
        self, cached: int, obstacle: MissCause | None, cause: MissCause
    ) -> None:
        assert told(None, cached, 0, obstacle) == Reuse(cached, 0, cached, cause)
