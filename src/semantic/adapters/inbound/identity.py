"""Which agent a request speaks for."""

from dataclasses import dataclass

import structlog
from starlette.requests import Request

from semantic.domain.agent import AgentId
from semantic.domain.errors import InvalidRequestError

HEADER = "X-Agent-ID"


@dataclass(frozen=True, slots=True)
class BodyNames:
    """Names that a request's body may give, as they stand there."""

    cache_key: str | None = None
    """`prompt_cache_key`"""
    session: str | None = None
    """The session's id within `metadata.user_id`"""
    user: str | None = None


NO_NAMES = BodyNames()


def agent_of(request: Request, names: BodyNames = NO_NAMES) -> AgentId | None:
    """The agent named in the header `X-Agent-ID`; None for an anonymous request.

    Raises:
        InvalidRequestError: if the name cannot be one, or the header is there twice.
    """
    del names
    found = request.headers.getlist(HEADER)
    if not found:
        return None
    if len(found) > 1:
        raise InvalidRequestError("the header is there more than once", field=HEADER)
    agent = AgentId.parse(_decoded(found[0]), field=HEADER)
    structlog.contextvars.bind_contextvars(agent=agent.key)
    return agent


def _decoded(value: str) -> str:
    """A header's text. HTTP hands it over as latin-1; clients write UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value
