"""What only looks different is made the same; what was said stays."""

import pytest

from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.stable_prompt import ALL_RULES, Rule, stable
from semantic.domain.tools import Tool, ToolCall, ToolUse

BILLING = "x-anthropic-billing-header: cc_version=2.1.330.{}; cc_entrypoint=cli; cch={};"
IDENTITY = "You are Claude Code, Anthropic's official CLI for Claude."
LEFT = "<total_tokens>{} tokens left</total_tokens>"
USAGE = "<system_warning>Token usage: {}/200000; 13 remaining</system_warning>"
NOTE = "<system-reminder>\nToken usage: {}/200000; 13 remaining\n</system-reminder>"

SYSTEM = ChatMessage(Role.SYSTEM, "Be brief.")
USER = ChatMessage(Role.USER, "hello")


def contents(*messages: ChatMessage, rules: frozenset[Rule] = ALL_RULES) -> list[str]:
    return [message.content for message in stable(Conversation(messages), rules).messages]


def test_nothing_changes_where_nothing_changes_by_itself() -> None:
    asked = Conversation(
        (SYSTEM, USER, ChatMessage(Role.ASSISTANT, "hi"), SYSTEM, USER),
        ToolUse((Tool("look", "Looks.", '{"type": "object", "properties": {}}'),)),
    )
    assert stable(asked) == asked


class TestBillingHeader:
    @pytest.mark.parametrize("between", ["", "\n", "\n\n", " \n"])
    def test_goes_and_what_follows_stays_however_blocks_are_joined(self, between: str) -> None:
        header = BILLING.format("a1b", "00000")
        assert contents(ChatMessage(Role.SYSTEM, header + between + IDENTITY)) == [IDENTITY]

    def test_of_another_conversation_leaves_the_same(self) -> None:
        one, two = (
            contents(ChatMessage(Role.SYSTEM, BILLING.format(*said) + "\n" + IDENTITY), USER)
            for said in (("a1b", "00000"), ("c2d", "fffff"))
        )
        assert one == two

    def test_by_itself_takes_its_message_along(self) -> None:
        assert contents(ChatMessage(Role.SYSTEM, BILLING.format(1, 2)), SYSTEM, USER) == [
            "Be brief.",
            "hello",
        ]

    def test_without_an_end_goes_to_the_end_of_its_line(self) -> None:
        said = f"x-anthropic-billing-header: cc_version=2.1.330; cch=1f\n{IDENTITY}"
        assert contents(ChatMessage(Role.SYSTEM, said)) == [IDENTITY]

    def test_stays_where_somebody_talks_of_it(self) -> None:
        said = BILLING.format(1, 2)
        assert contents(ChatMessage(Role.USER, said)) == [said]
        within = ChatMessage(Role.SYSTEM, f"Never print {said}")
        assert contents(within) == [within.content]

    def test_stays_if_it_is_all_there_is(self) -> None:
        assert len(contents(ChatMessage(Role.SYSTEM, BILLING.format(1, 2)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "x-anthropic-billing-header: is a line that Claude Code adds.",
        "See\nx-anthropic-billing-header: a=b;",
    ],
)
def test_what_is_said_of_billing_stays(text: str) -> None:
    assert contents(ChatMessage(Role.SYSTEM, text)) == [text]


class TestTokenReminders:
    @pytest.mark.parametrize(
        "note", [LEFT, USAGE, NOTE, f"<system-reminder>{LEFT}</system-reminder>"]
    )
    @pytest.mark.parametrize("role", [Role.USER, Role.SYSTEM, Role.TOOL])
    def test_at_an_end_go(self, note: str, role: Role) -> None:
        said = f"hello\n\n{note.format('189,131')}\n"
        assert contents(USER, ChatMessage(role, said)) == ["hello", "hello"]

    @pytest.mark.parametrize(
        "said",
        [
            "Why does my log say <total_tokens>5 tokens left</total_tokens> here?",
            "<total_tokens>5 tokens left</total_tokens>",
            "print('<total_tokens>5 tokens left</total_tokens>')\n    return 1",
        ],
    )
    def test_that_a_user_speaks_of_are_no_reminders(self, said: str) -> None:
        assert contents(ChatMessage(Role.USER, said)) == [said]

    def test_leave_what_is_indented_as_it_is(self) -> None:
        said = "def f():\n<system_warning>Token usage: 1/2; 1 remaining</system_warning>\n    pass"
        assert contents(ChatMessage(Role.USER, said)) == ["def f():\n\n    pass"]

    def test_within_what_a_tool_has_returned_are_its_own(self) -> None:
        said = "log: <total_tokens>5 tokens left</total_tokens>"
        assert contents(ChatMessage(Role.TOOL, said)) == [said]

    @pytest.mark.parametrize("note", [LEFT, USAGE, NOTE])
    def test_in_the_middle_leave_two_paragraphs(self, note: str) -> None:
        said = f"one\n{note.format(4711)}\ntwo\n{note.format(12)}\n\n\nthree"
        assert contents(ChatMessage(Role.USER, said)) == ["one\n\ntwo\n\nthree"]

    def test_that_are_a_message_of_their_own_take_it_along(self) -> None:
        assert contents(USER, ChatMessage(Role.SYSTEM, LEFT.format(1)), USER) == ["hello", "hello"]

    def test_in_a_line_of_their_own_go_where_no_user_speaks(self) -> None:
        said = "Be kind.\n\nToken usage: 1020/999936; 998916 remaining\n\nToday is Monday."
        assert contents(USER, ChatMessage(Role.SYSTEM, said)) == [
            "hello",
            "Be kind.\n\nToday is Monday.",
        ]
        assert contents(ChatMessage(Role.USER, said)) == [said]

    def test_of_money_are_reminders_too(self) -> None:
        note = ChatMessage(Role.SYSTEM, "USD budget: $0.25/$5; $4.75 remaining")
        assert contents(USER, note, USER) == ["hello", "hello"]

    def test_within_what_a_tool_returned_stay(self) -> None:
        said = f"line 1\n{LEFT.format(1)}\nline 3"
        assert contents(USER, ChatMessage(Role.TOOL, said)) == ["hello", said]

    def test_a_result_stays_though_nothing_is_left_of_it(self) -> None:
        assert contents(USER, ChatMessage(Role.TOOL, LEFT.format(1))) == ["hello", ""]

    @pytest.mark.parametrize(
        "said", ["<total_tokens>all tokens left</total_tokens>", "Token usage: 1/2; 1 remaining"]
    )
    def test_what_only_resembles_them_stays(self, said: str) -> None:
        assert contents(ChatMessage(Role.USER, said)) == [said]

    def test_what_a_model_says_stays(self) -> None:
        said = LEFT.format(1)
        assert contents(USER, ChatMessage(Role.ASSISTANT, said)) == ["hello", said]


class TestTools:
    TOOL = Tool("edit", "", '{"required":["path"],"properties":{"new":{},"path":{}}}')

    def called(self, arguments: str, name: str = "edit") -> str:
        call = ToolCall("1", name, arguments)
        message = ChatMessage(Role.ASSISTANT, "", calls=(call,))
        (_, found) = stable(Conversation((USER, message), ToolUse((self.TOOL,)))).messages
        return found.calls[0].arguments

    def test_arguments_are_written_again_as_the_tool_shows_them(self) -> None:
        for said in (
            '{"new":"b","path":"a"}',
            '{"path": "a", "new": "b"}',
            '{"path":"a","new":"b"}',
        ):
            assert self.called(said) == '{"path": "a", "new": "b"}'

    def test_arguments_of_a_tool_that_is_gone_are_sorted(self) -> None:
        assert self.called('{"path":"a","new":"b"}', "other") == '{"new": "b", "path": "a"}'

    def test_schemas_are_written_in_one_order(self) -> None:
        asked = Conversation((USER,), ToolUse((self.TOOL,), parallel=False))
        found = stable(asked).use
        expected = '{"properties": {"path": {}, "new": {}}, "required": ["path"]}'
        assert found.tools[0].parameters == expected
        assert not found.parallel


def test_an_answer_ends_with_its_last_word() -> None:
    assert contents(USER, ChatMessage(Role.ASSISTANT, " hi \n\n")) == ["hello", " hi"]


def test_messages_stay_where_they_are() -> None:
    messages = (USER, SYSTEM, ChatMessage(Role.ASSISTANT, ""), SYSTEM, USER)
    assert stable(Conversation(messages)).messages == messages


@pytest.mark.parametrize("rule", list(Rule))
def test_each_rule_can_be_switched_off(rule: Rule) -> None:
    schema = '{"b":1,"a":2}'
    asked = Conversation(
        (
            ChatMessage(Role.SYSTEM, BILLING.format(1, 2) + IDENTITY),
            ChatMessage(Role.USER, f"hello\n{LEFT.format(1)}"),
            ChatMessage(Role.ASSISTANT, "hi ", calls=(ToolCall("1", "x", '{"b":1,"a":2}'),)),
        ),
        ToolUse((Tool("x", "", schema),)),
    )
    assert stable(asked, frozenset()) == asked
    changed = {one for one in Rule if stable(asked, frozenset({one})) != asked}
    assert changed == set(Rule)
    without = stable(asked, ALL_RULES - {rule})
    assert without != stable(asked)
    assert stable(without, frozenset({rule})) == stable(asked)
    assert stable(stable(asked)) == stable(asked)
