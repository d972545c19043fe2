"""Which functions an answer may, must or must not call, in today's words and in the older ones."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.wire import Wire, json_text
from semantic.domain.errors import InvalidRequestError
from semantic.domain.tools import Calling, Tool, ToolUse

_CALLING = {"none": Calling.NONE, "auto": Calling.AUTO, "required": Calling.REQUIRED}

_OBJECT = "object"

# OpenAI's own has neither dots nor so many letters; servers of tools have.
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]


def _of_object(schema: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
    """Arguments are an object, whether or not their schema says so."""
    if not schema:
        return None
    whole = {"type": _OBJECT, **schema}
    if whole["type"] != _OBJECT:
        raise PydanticCustomError("no_object", "these must be the parameters of an object")
    json_text(whole)
    return whole


class Function(Wire):
    """A function that may be called. Arguments are held to its schema, `strict` or not."""

    name: ToolName
    description: str | None = None
    parameters: Annotated[dict[str, JsonValue] | None, AfterValidator(_of_object)] = None
    strict: bool | None = None

    def translated(self) -> Tool:
        """The same in the domain's terms."""
        description = self.description or ""
        if self.parameters is None:
            return Tool(self.name, description)
        return Tool(self.name, description, json_text(self.parameters))


class FunctionTool(Wire):
    """A tool. Others than functions are not known."""

    type: Literal["function"]
    function: Function


class FunctionName(Wire):
    """A function that is meant."""

    name: str


class NamedTool(Wire):
    """A tool that is meant."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(Wire):
    """Those of the tools that may be called."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool]


def _as_choice(choice: object) -> object:
    return {"type": choice} if isinstance(choice, str) else choice


class ToolChoice(Wire):
    """What is to be called. A word alone is its `type`."""

    type: Literal["none", "auto", "required", "function", "allowed_tools"]
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ToolChoice":
        if self.type not in _CALLING and getattr(self, self.type) is None:
            raise PydanticCustomError("missing", "what is chosen is not there")
        return self

    def of(self, tools: tuple[Tool, ...], *, parallel: bool) -> ToolUse:
        """Their use.

        Raises:
            InvalidRequestError: naming the field, if there is no such tool.
        """
        if self.type == "function" and self.function:
            only = frozenset({self.function.name})
            return ToolUse(tools, Calling.REQUIRED, only, parallel)
        if self.type == "allowed_tools" and self.allowed_tools:
            only = frozenset(tool.function.name for tool in self.allowed_tools.tools)
            return ToolUse(tools, _CALLING[self.allowed_tools.mode], only, parallel)
        return ToolUse(tools, _CALLING[self.type], parallel=parallel)


AUTO = ToolChoice(type="auto")


def _as_function_choice(choice: object) -> object:
    if isinstance(choice, str):
        return {"type": choice}
    if isinstance(choice, dict):
        return {"type": "function", "function": choice}
    return choice


_OLDER = {"tools": "functions", "tool_choice": "function_call"}
"""What fields were called before."""


class ToolFields(Wire):
    """The fields of a request that speak of tools."""

    tools: list[FunctionTool] | None = None
    tool_choice: Annotated[
        ToolChoice | None,
        BeforeValidator(
            _as_choice,
            json_schema_input_type=Literal["none", "auto", "required"] | ToolChoice | None,
        ),
    ] = None
    parallel_tool_calls: bool | None = None
    functions: list[Function] | None = None
    function_call: Annotated[
        ToolChoice | None,
        BeforeValidator(
            _as_function_choice,
            json_schema_input_type=Literal["none", "auto"] | FunctionName | None,
        ),
    ] = None

    @property
    def in_older_words(self) -> bool:
        """Whether calls are asked for, and answered, in the older form: one, as `function_call`."""
        return bool(self.functions) or self.function_call is not None

    def use(self) -> ToolUse:
        """The same in the domain's terms.

        Raises:
            InvalidRequestError: naming the field, if it makes no sense beside the others.
        """
        if not self.in_older_words:
            tools = tuple(tool.function.translated() for tool in self.tools or ())
            choice = self.tool_choice or AUTO
            return choice.of(tools, parallel=self.parallel_tool_calls is not False)
        for field, older in _OLDER.items():
            if getattr(self, field):
                raise InvalidRequestError(f"{field} and {older} exclude each other", field=field)
        functions = tuple(function.translated() for function in self.functions or ())
        try:
            return (self.function_call or AUTO).of(functions, parallel=False)
        except InvalidRequestError as error:
            named = _OLDER.get(error.field or "", error.field)
            raise InvalidRequestError(str(error), field=named) from error
