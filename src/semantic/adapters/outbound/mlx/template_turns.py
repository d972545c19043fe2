"""A conversation as the turns that a chat template takes: roles and contents, calls, results.

Turns are dictionaries in OpenAI's shape, which templates are written for. What a template cannot
show natively is written into the text of a turn; in which of these ways is decided elsewhere
(`template_traits`).
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from semantic.domain.answer_syntax import AnswerSyntax, Arguments, CallSyntax
from semantic.domain.chat import Role
from semantic.domain.tagged_arguments import TaggedArguments
from semantic.domain.tools import Tool, ToolCall

Turn = dict[str, Any]

CALL_ID = "000000000"
"""The id of every call in a prompt: real ones are new each time, and say nothing. Mistral wants 9
digits."""

_TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return its name and arguments like this:
{example}"""
"""Nearly how Qwen 2.5 and Hermes are told of tools, which most models have seen."""


def tool_of(tool: Tool) -> Turn:
    """A tool in OpenAI's shape."""
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": json.loads(tool.parameters),
        },
    }


def reminder(text: str) -> str:
    """A system's message as text of a user's turn."""
    return f"<system-reminder>\n{text}\n</system-reminder>"


def told_result(text: str) -> str:
    """A call's result as text of a user's turn."""
    return f"<tool_response>\n{text}\n</tool_response>"


class CallTexts:
    """Writes the calls of one conversation as a model writes them."""

    def __init__(
        self, syntax: AnswerSyntax, tools: Sequence[Tool], *, as_text: bool = False
    ) -> None:
        """`as_text`: whether the template wants arguments as JSON's text."""
        self._syntax = syntax.calls
        self._tools = {tool.name: tool for tool in tools}
        self._as_text = as_text

    def native(self, calls: Sequence[ToolCall]) -> list[Turn]:
        """For a template that knows calls."""
        return [
            {
                "id": self.number(call.name, place),
                "type": "function",
                "function": {"name": call.name, "arguments": self._arguments(call)},
            }
            for place, call in enumerate(calls)
        ]

    def number(self, name: str, place: int) -> str:
        """The id of a message's call in that place."""
        return f"functions.{name}:{place}" if self._syntax.numbered else CALL_ID

    def text(self, calls: Sequence[ToolCall]) -> str:
        """All of a message's calls, letter for letter."""
        syntax = self._syntax
        written = (self._call(syntax, call, place) for place, call in enumerate(calls))
        return syntax.before + syntax.between.join(written) + syntax.after

    def after(self, content: str, calls: Sequence[ToolCall]) -> str:
        """An answer's text with the calls that it ends with."""
        return content + (self._syntax.lead if content else "") + self.text(calls)

    def told(self, tools: Iterable[Tool]) -> str:
        """Tools as text, for a template that shows none."""
        lines = (json.dumps(tool_of(tool), ensure_ascii=False) for tool in tools)
        tagged = self._syntax.arguments is Arguments.TAGGED
        arguments = '{"<argument>": "<value>"}' if tagged else "<args-json-object>"
        example = self.text([ToolCall("", "<function-name>", arguments)])
        return _TOOLS.format(tools="\n".join(lines), example=example)

    def _call(self, syntax: CallSyntax, call: ToolCall, place: int) -> str:
        number = f":{place}" if syntax.numbered else ""
        naming = f"{syntax.opening}{call.name}{number}{syntax.naming}"
        return f"{naming}{self._written(syntax, call)}{syntax.closing}"

    def _written(self, syntax: CallSyntax, call: ToolCall) -> str:
        if syntax.arguments is Arguments.JSON:
            return call.arguments
        tags = syntax.tags
        return "".join(
            f"{tags.begin}{key}{tags.naming}{value}{tags.end}"
            for key, value in self._tagged(call).items()
        )

    def _arguments(self, call: ToolCall) -> str | dict[str, Any]:
        if self._syntax.arguments is Arguments.TAGGED:
            return self._tagged(call)
        return call.arguments if self._as_text else parsed(call.arguments)

    def _tagged(self, call: ToolCall) -> dict[str, Any]:
        """Each as text: then no template writes a value in a way of its own."""
        tool = self._tools.get(call.name) or Tool(call.name)
        written = TaggedArguments(tool).written
        return {key: written(key, value) for key, value in parsed(call.arguments).items()}


def parsed(arguments: str) -> dict[str, Any]:
    """A call's arguments; what was cut off and is no object any more stands under an empty name."""
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"": arguments}


def merged(turns: Iterable[Turn]) -> list[Turn]:
    """With turns of users that follow one another made one, for templates that want them to."""
    out: list[Turn] = []
    for turn in turns:
        if out and turn["role"] == out[-1]["role"] == Role.USER.value:
            out[-1] = out[-1] | {"content": f"{out[-1]['content']}\n\n{turn['content']}"}
        else:
            out.append(turn)
    return out


def user(text: str) -> Turn:
    """A user's turn."""
    return {"role": Role.USER.value, "content": text}
