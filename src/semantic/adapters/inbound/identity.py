"""Which agent a request speaks for.

Clients name their conversations in many ways, most of them without knowing of agents. Our own
header is an order, and a name that cannot be one is refused. All others are hints: the first that
can be used wins, and one that cannot is skipped. A hint's name begins with its kind, so that two
clients' equal ids are two agents. docs/identity.md has the list.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semantic.adapters.inbound.reuse_headers import PREFIX
from semantic.domain.agent import AgentId
from semantic.domain.errors import InvalidRequestError

HEADER = "X-Agent-ID"
ANSWER_HEADER = f"{PREFIX}Agent"

_SESSION = "x-claude-code-session-id"
_SUBAGENT = "x-claude-code-agent-id"
_MAIN = "main"
"""The agent of a session of Claude Code that no header names."""
_NAMED_BY_STATE = "named_by"
_AGENT_STATE = "agent"
_LEGIBLE = "/:@ "


@dataclass(frozen=True, slots=True)
class BodyNames:
    """Names that a request's body may give, as they stand there."""

    cache_key: str | None = None
    """`prompt_cache_key`"""
    session: str | None = None
    """The session's id within `metadata.user_id`"""
    user: str | None = None


NO_NAMES = BodyNames()

Hint = Callable[[Request, BodyNames], tuple[str, ...]]
"""What a request says in one of the ways, the widest name first; nothing if it says nothing."""

NamedBy = tuple[str, ...]
"""Names of hints, the strongest first."""


def _claude_code(request: Request, _: BodyNames) -> tuple[str, ...]:
    session = _header(request, _SESSION)
    return (session, _header(request, _SUBAGENT) or _MAIN) if session else ()


def _of_header(name: str) -> Hint:
    def found(request: Request, _: BodyNames) -> tuple[str, ...]:
        value = _header(request, name)
        return (value,) if value else ()

    return found


def _of_body(part: Callable[[BodyNames], str | None]) -> Hint:
    def found(_: Request, names: BodyNames) -> tuple[str, ...]:
        value = part(names)
        return (value,) if value and value.strip() else ()

    return found


HINTS: Mapping[str, tuple[str, Hint]] = MappingProxyType(
    {
        "claude-code": ("claude", _claude_code),
        "codex": ("codex", _of_header("thread-id")),
        "session-id": ("session", _of_header("x-session-id")),
        "session-affinity": ("affinity", _of_header("x-session-affinity")),
        "open-webui": ("openwebui", _of_header("x-openwebui-chat-id")),
        "prompt-cache-key": ("cache-key", _of_body(lambda names: names.cache_key)),
        "metadata-session": ("metadata", _of_body(lambda names: names.session)),
        "user": ("user", _of_body(lambda names: names.user)),
    }
)
"""What an operator calls a hint, and the kind that its names begin with."""

NAMED_BY: NamedBy = tuple(HINTS)


class AgentNameMiddleware:
    """Says which hints count, and tells in the answer under which name it is remembered."""

    def __init__(self, app: ASGIApp, named_by: NamedBy) -> None:
        self._app = app
        self._named_by = named_by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state[_NAMED_BY_STATE] = self._named_by

        async def told(message: Message) -> None:
            agent = state.get(_AGENT_STATE)
            if message["type"] == "http.response.start" and isinstance(agent, AgentId):
                name = quote(agent.name, safe=_LEGIBLE)
                MutableHeaders(scope=message)[ANSWER_HEADER] = name
            await send(message)

        await self._app(scope, receive, told)


def agent_of(request: Request, names: BodyNames = NO_NAMES) -> AgentId | None:
    """The agent that `request` speaks for; None for an anonymous one.

    Raises:
        InvalidRequestError: if the header `X-Agent-ID` holds what cannot be a name, or is there
            twice.
    """
    agent = _ordered(request) or _hinted(request, names)
    if agent is not None:
        setattr(request.state, _AGENT_STATE, agent)
        structlog.contextvars.bind_contextvars(agent=agent.key)
    return agent


def _ordered(request: Request) -> AgentId | None:
    found = request.headers.getlist(HEADER)
    if len(found) > 1:
        raise InvalidRequestError("the header is there more than once", field=HEADER)
    return AgentId.parse(_decoded(found[0]), field=HEADER) if found else None


def _hinted(request: Request, names: BodyNames) -> AgentId | None:
    for hint in getattr(request.state, _NAMED_BY_STATE, NAMED_BY):
        kind, say = HINTS[hint]
        if said := say(request, names):
            try:
                return _named(kind, said, field=hint)
            except InvalidRequestError as error:
                structlog.stdlib.get_logger().debug("hint_skipped", hint=hint, reason=str(error))
    return None


def _named(kind: str, said: tuple[str, ...], *, field: str) -> AgentId:
    """The agent that a hint names; raises InvalidRequestError if any part of it cannot be one."""
    parts = [AgentId.parse(part, field=field).name for part in said]
    # A slash inside a part is none between parts.
    wider = [part.replace("%", "%25").replace("/", "%2F") for part in parts[:-1]]
    return AgentId.parse(f"{kind}:{'/'.join((*wider, parts[-1]))}", field=field)


def _header(request: Request, name: str) -> str | None:
    """A header's text; None if it is blank, not there, or there with several values."""
    values = {value.strip() for value in request.headers.getlist(name)}
    return _decoded(values.pop()) or None if len(values) == 1 else None


def _decoded(value: str) -> str:
    """A header's text. HTTP hands it over as latin-1; clients write UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value
