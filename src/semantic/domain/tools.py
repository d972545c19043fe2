"""What a model may be given to call, and what a conversation tells of calls.

JSON is kept as text here: values are compared, hashed and never changed.
"""

import enum
from dataclasses import dataclass

from semantic.domain.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client would run. `parameters` is a JSON schema, of an object."""

    name: str
    description: str = ""
    parameters: str = '{"type": "object", "properties": {}}'


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model has written. `arguments` is a JSON object's text."""

    id: str
    name: str
    arguments: str


class Calling(enum.Enum):
    """Whether an answer may, must not or must hold calls."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools that are offered, and how they are to be used.

    `only` are the names of those that may be called; None: of all. Without `parallel` an answer
    holds one call at most. All tools are shown to the model, whatever may be called: what begins
    the prompt stays the same. `told` are tools that may be called as well and that the conversation
    itself brings in: they are no part of what begins the prompt.

    Raises:
        InvalidRequestError: naming the field, if a call is required of a tool that is not there, or
            two tools have one name.
    """

    tools: tuple[Tool, ...] = ()
    calling: Calling = Calling.AUTO
    only: frozenset[str] | None = None
    parallel: bool = True
    told: tuple[Tool, ...] = ()

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools + self.told]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidRequestError(f"two tools are named {twice!r}", field="tools")
        if unknown := sorted((self.only or frozenset()).difference(names)):
            raise InvalidRequestError(f"there is no tool {unknown[0]!r}", field="tool_choice")
        if self.calling is Calling.REQUIRED and not self.callable:
            raise InvalidRequestError(
                "a call is required, but there are no tools", field="tool_choice"
            )

    @property
    def callable(self) -> tuple[Tool, ...]:
        """Those that may be called."""
        if self.calling is Calling.NONE:
            return ()
        known = self.tools + self.told
        return tuple(tool for tool in known if self.only is None or tool.name in self.only)


NO_TOOLS = ToolUse()


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """The answer's text is to be JSON: of the `schema`, a JSON schema's text; None: any object."""

    schema: str | None = None
