"""Which agent a request speaks for."""

import structlog
from starlette.requests import Request

from semantic.domain.agent import AgentId
from semantic.domain.errors import InvalidRequestError

HEADER = "X-Agent-ID"


def agent_of(request: Request) -> AgentId | None:
    """The agent named in the header `X-Agent-ID`; None for an anonymous request.

    Raises:
        InvalidRequestError: if the name cannot be one, or the header is there twice.
    """
    names = request.headers.getlist(HEADER)
    if not names:
        return None
    if len(names) > 1:
        raise InvalidRequestError("the header is there more than once", field=HEADER)
    agent = AgentId.parse(_decoded(names[0]), field=HEADER)
    structlog.contextvars.bind_contextvars(agent=agent.key)
    return agent


def _decoded(value: str) -> str:
    """A header's text. HTTP hands it over as latin-1; clients write UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value
