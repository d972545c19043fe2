"""What clients change from request to request though nothing was said: taken out of a conversation.

Each rule has a name, by which it is switched off, and is told of in docs/stable-prefix.md. Rules
take away or write alike; none moves a message, and none looks at any other conversation. Applied
twice they change nothing more.
"""

import enum
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.json_order import ordered_arguments, ordered_schema
from semantic.domain.tools import Tool, ToolCall


class Rule(enum.Enum):
    """What may be changed of a conversation before it becomes a prompt."""

    BILLING_HEADER = "billing_header"
    """A system prompt's line `x-anthropic-billing-header: ...` goes."""
    TOKEN_REMINDERS = "token_reminders"  # noqa: S105 - no secret
    """Notes on how many tokens are left go."""
    TOOL_SCHEMAS = "tool_schemas"
    """Tools' schemas are written in one order, with one spacing."""
    CALL_ARGUMENTS = "call_arguments"
    """So are the arguments of calls: in the order of their tool's schema."""
    ANSWER_ENDS = "answer_ends"
    """Blank space at the end of an assistant's text goes."""


ALL_RULES = frozenset(Rule)

_BILLING = re.compile(
    r"\A\s*x-anthropic-billing-header:(?:[ \t]*[\w.-]+=[^;\n]*(?:;|(?=\n)|\Z))+[ \t]*\n*"
)
"""Where a system prompt begins with it: fields that end with a semicolon, as what follows the last
one may be text of the next block."""

_USAGE = r"(?:Token usage|USD budget): \$?[\d.,]+/\$?[\d.,]+; \$?[\d.,]+ remaining"
_TAGGED = (
    r"<total_tokens>\s*[\d,]+ tokens left\s*</total_tokens>"
    rf"|<system_warning>\s*{_USAGE}\s*</system_warning>"
)
_REMINDER = (
    rf"<system-reminder>\s*(?:{_TAGGED}|{_USAGE})\s*</system-reminder>"
    rf"|^[ \t]*(?:{_TAGGED})[ \t]*$"
)
"""On lines of its own: within a sentence it is what somebody says."""
_REMINDERS = re.compile(_REMINDER, re.MULTILINE)
_SYSTEM_REMINDERS = re.compile(rf"{_REMINDER}|^{_USAGE}$", re.MULTILINE)
"""Where no user speaks, a line that says nothing else is one, too."""
_LAST_REMINDER = re.compile(rf"(?:{_REMINDER})\s*\Z", re.MULTILINE)
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")

_PARAGRAPH = "\n\n"


def stable(asked: Conversation, rules: frozenset[Rule] = ALL_RULES) -> Conversation:
    """The conversation without what the `rules` take away.

    Messages of which nothing is left are gone, unless all would be.
    """
    schemas = Rule.TOOL_SCHEMAS in rules
    tools = tuple(map(_ordered, asked.use.tools)) if schemas else asked.use.tools
    known = {tool.name: tool for tool in tools}
    messages = tuple(_stable(message, known, rules) for message in asked.messages)
    kept = tuple(
        message
        for message, before in zip(messages, asked.messages, strict=True)
        if _says(message) or not _says(before)
    )
    return replace(asked, messages=kept or messages, use=replace(asked.use, tools=tools))


def _stable(message: ChatMessage, tools: dict[str, Tool], rules: frozenset[Rule]) -> ChatMessage:
    content = message.content
    for rule, change in _CHANGES[message.role]:
        if rule in rules:
            content = change(content)
    calls = message.calls
    if Rule.CALL_ARGUMENTS in rules:
        calls = tuple(_in_order(call, tools.get(call.name)) for call in calls)
    if content == message.content and calls == message.calls:
        return message
    return replace(message, content=content, calls=calls)


def _says(message: ChatMessage) -> bool:
    """Whether there is anything in it; a result is one also if it is empty."""
    return bool(message.content or message.calls or message.reasoning or message.role is Role.TOOL)


def _ordered(tool: Tool) -> Tool:
    return replace(tool, parameters=ordered_schema(tool.parameters))


def _in_order(call: ToolCall, tool: Tool | None) -> ToolCall:
    schema = tool.parameters if tool else "null"
    return replace(call, arguments=ordered_arguments(call.arguments, schema))


def _without_billing(text: str) -> str:
    return _BILLING.sub("", text)


def _without_reminders(text: str, reminders: re.Pattern[str] = _REMINDERS) -> str:
    first, *others = reminders.split(text)
    for piece in others:
        # What is indented stays so.
        before, after = first.rstrip(), _BLANK_LINES.sub("", piece)
        first = before + (_PARAGRAPH if before and after else "") + after
    return first


def _without_reminders_beside(text: str) -> str:
    """A user who says nothing else has meant it."""
    return _without_reminders(text) or text


def _without_last_reminder(text: str) -> str:
    """What a tool has returned is left alone: a client adds to it at its end."""
    found = _LAST_REMINDER.search(text)
    return text[: found.start()].rstrip() if found else text


_CHANGES: dict[Role, tuple[tuple[Rule, Callable[[str], str]], ...]] = {
    Role.SYSTEM: (
        (Rule.BILLING_HEADER, _without_billing),
        (Rule.TOKEN_REMINDERS, partial(_without_reminders, reminders=_SYSTEM_REMINDERS)),
    ),
    Role.USER: ((Rule.TOKEN_REMINDERS, _without_reminders_beside),),
    Role.ASSISTANT: ((Rule.ANSWER_ENDS, str.rstrip),),
    Role.TOOL: ((Rule.TOKEN_REMINDERS, _without_last_reminder),),
}
