"""The tools that a client offers, as functions with plain names, and back from those names.

A model knows functions only. A function of a namespace is shown under a name of both; a tool with
free input is shown as a function of one text. Tools that the API's own server would run are left
out, and told of.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.responses.kept_json import FiniteJson, Kept
from semantic.domain.errors import InvalidRequestError
from semantic.domain.tools import Calling, Tool, ToolUse

_BETWEEN: Final = "__"
_OBJECT: Final = "object"
_FREE_INPUT: Final = json.dumps(
    {
        "type": _OBJECT,
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": False,
    }
)


# OpenAI's own has neither dots nor so many letters; servers of tools have.
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
Type = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


def _of_object(schema: dict[str, FiniteJson] | None) -> dict[str, FiniteJson] | None:
    """Arguments are an object, whether or not their schema says so."""
    if schema and schema.get("type", _OBJECT) != _OBJECT:
        raise PydanticCustomError("no_object", "these must be the parameters of an object")
    return schema


def shown_name(name: str, namespace: str | None) -> str:
    """What a model calls a tool. Namespaces of MCP servers often end like that already."""
    if not namespace:
        return name
    return f"{namespace.removesuffix(_BETWEEN)}{_BETWEEN}{name}"


class FunctionTool(Kept):
    """A function. Calls are held to the schema in any case, `strict` or not."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: Annotated[dict[str, FiniteJson] | None, AfterValidator(_of_object)] = None
    strict: bool | None = None


class CustomTool(Kept):
    """A tool with free text for its input; a grammar for that is told and not enforced."""

    type: Literal["custom"]
    name: Name
    description: str | None = None
    format: dict[str, FiniteJson] | None = None


class NamespaceTool(Kept):
    """Tools that belong together."""

    type: Literal["namespace"]
    name: Name
    description: str | None = None
    tools: list[Annotated[FunctionTool | CustomTool, Discriminator("type")]]


class HostedTool(Kept):
    """Any other: run by the API's own server, or known to its own models."""

    type: Type


_OURS: Final = frozenset({"function", "custom", "namespace"})


def _tag(found: object) -> str:
    kind = found.get("type") if isinstance(found, dict) else getattr(found, "type", None)
    return kind if isinstance(kind, str) and kind in _OURS else "hosted"


ToolSpec = Annotated[
    Annotated[FunctionTool, Tag("function")]
    | Annotated[CustomTool, Tag("custom")]
    | Annotated[NamespaceTool, Tag("namespace")]
    | Annotated[HostedTool, Tag("hosted")],
    Discriminator(_tag),
]


class NamedTool(Kept):
    """A tool, as a choice names it."""

    type: str
    name: str | None = None
    namespace: str | None = None

    @property
    def shown(self) -> str | None:
        """What a model calls it; None for one that it cannot call."""
        offered = self.type in {"function", "custom"} and self.name
        return shown_name(self.name, self.namespace) if offered and self.name else None


class AllowedTools(Kept):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedTool]


def _callable(found: object) -> object:
    """Refuse a choice of what no model here can call."""
    kind = found.get("type") if isinstance(found, dict) else None
    if isinstance(kind, str) and kind not in {"function", "custom", "allowed_tools"}:
        message = "tools of the type {kind} are not supported"
        raise PydanticCustomError("not_supported", message, {"kind": repr(kind)})
    return found


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | AllowedTools | NamedTool, BeforeValidator(_callable)
]


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool in the client's words."""

    name: str
    namespace: str | None = None
    custom: bool = False


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What a model is offered; `offered` by the names that it knows.

    `ignored`: what a client asked for that is left out, by where it stands in the request.
    """

    use: ToolUse
    offered: Mapping[str, Offered]
    ignored: tuple[str, ...] = ()


def toolbox(specs: Sequence[ToolSpec], choice: ToolChoice | None, *, parallel: bool) -> Toolbox:
    """The tools, and how they may be used.

    Raises:
        InvalidRequestError: naming the field, if a tool is chosen that is not there, or two have
            one name.
    """
    tools: list[Tool] = []
    offered: dict[str, Offered] = {}
    ignored: list[str] = []
    for number, spec in enumerate(specs):
        if isinstance(spec, HostedTool):
            ignored.append(f"tools.{number}:{spec.type}")
        for tool, meant, unenforced in _functions(spec):
            tools.append(tool)
            offered[tool.name] = meant
            if unenforced:
                ignored.append(f"tools.{number}:{unenforced}")
    calling, only = _chosen(choice)
    return Toolbox(ToolUse(tuple(tools), calling, only, parallel), offered, tuple(ignored))


def _functions(spec: ToolSpec) -> Iterator[tuple[Tool, Offered, str]]:
    """The functions of a tool, what each stands for, and what of it cannot be held to."""
    match spec:
        case FunctionTool():
            yield _function(spec, None), Offered(spec.name), ""
        case CustomTool():
            yield _custom(spec, None), Offered(spec.name, custom=True), _grammar(spec)
        case NamespaceTool():
            yield from _of_namespace(spec)


def _of_namespace(spec: NamespaceTool) -> Iterator[tuple[Tool, Offered, str]]:
    # Said once, before the first: a server's manual before each of its tools would fill prompts.
    about = spec.description
    for inside in spec.tools:
        if isinstance(inside, CustomTool):
            made, unenforced = _custom(inside, spec.name), _grammar(inside)
        else:
            made, unenforced = _function(inside, spec.name), ""
        if about:
            made = replace(made, description=f"{about}\n\n{made.description}".rstrip())
            about = None
        custom = isinstance(inside, CustomTool)
        yield made, Offered(inside.name, spec.name, custom=custom), unenforced


def _function(spec: FunctionTool, namespace: str | None) -> Tool:
    name = shown_name(spec.name, namespace)
    about = spec.description or ""
    if not spec.parameters:
        return Tool(name, about)
    parameters = {"type": _OBJECT, **spec.parameters}
    return Tool(name, about, json.dumps(parameters, ensure_ascii=False))


def _custom(spec: CustomTool, namespace: str | None) -> Tool:
    about = spec.description or ""
    if _grammar(spec):
        syntax, definition = ((spec.format or {}).get(key) for key in ("syntax", "definition"))
        about = f"{about}\n\nThe input follows this grammar ({syntax}):\n{definition}".lstrip()
    return Tool(shown_name(spec.name, namespace), about, _FREE_INPUT)


def _grammar(spec: CustomTool) -> str:
    return "grammar" if (spec.format or {}).get("type") == "grammar" else ""


def _chosen(choice: ToolChoice | None) -> tuple[Calling, frozenset[str] | None]:
    match choice:
        case None:
            return Calling.AUTO, None
        case str():
            return Calling(choice), None
        case AllowedTools(mode=mode, tools=tools):
            only = frozenset(tool.shown for tool in tools if tool.shown is not None)
            return Calling(mode), only
        case NamedTool(shown=shown):
            if shown is None:
                raise InvalidRequestError("the tool has no name", field="tool_choice")
            return Calling.REQUIRED, frozenset({shown})
