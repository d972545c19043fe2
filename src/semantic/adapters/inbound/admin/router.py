"""The routes under /admin.

Whoever calls them shows a token that only the server's operator can know. An agent's name is free
text, so it stands in the query, where every text can stand, and not in the path.
"""

import secrets
from dataclasses import asdict, dataclass

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from typing_extensions import TypedDict

from semantic.adapters.inbound.openapi import OPENAI_ERROR, Schema, described
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import DEFAULT_TENANT, TenantId, tenant_id
from semantic.ports.administration import (
    Administration,
    AgentFootprint,
    AgentSummary,
    Deletion,
    MemoryUse,
)

_AGENT: dict[str, Schema] = {"name": {"type": "string"}, "tenant": {"type": "string"}}


@dataclass(frozen=True, slots=True)
class AdminAccess:
    """What is administered, and the token that opens it."""

    administration: Administration
    token: str


class AgentsTold(TypedDict):
    """Agents; of one that is named, also what it takes: `blocks`, `bytes`, `bytes_alone`."""

    data: list[AgentSummary]


def admin_router(access: AdminAccess) -> APIRouter:
    """List agents, look at one, forget one; look at the memory for KV."""

    async def check_token(request: Request) -> None:
        scheme, _, offered = request.headers.get("authorization", "").partition(" ")
        known = secrets.compare_digest(offered.strip().encode(), access.token.encode())
        if scheme.lower() != "bearer" or not known:
            raise HTTPException(
                401,
                "administration needs the token in the store's server.json",
                {"WWW-Authenticate": "Bearer"},
            )

    router = APIRouter(prefix="/admin", dependencies=[Depends(check_token)])
    administration = access.administration

    @router.get("/agents", **described(answer=AgentsTold, query=_AGENT))
    async def list_agents(request: Request) -> JSONResponse:
        """All agents of `tenant`; with `name`, that one and what it takes."""
        tenant = _tenant(request)
        if "name" in request.query_params:
            memories = await administration.agent(_name(request), tenant)
            return JSONResponse({"data": [_footprint(memory) for memory in memories]})
        found = await administration.agents(tenant)
        return JSONResponse({"data": [asdict(agent) for agent in found]})

    @router.delete(
        "/agents", **described(answer=Deletion, query=_AGENT, others={409: OPENAI_ERROR})
    )
    async def delete_agent(request: Request) -> JSONResponse:
        """Forget the agent `name` of `tenant`."""
        deleted = await administration.delete_agent(_name(request), _tenant(request))
        return JSONResponse(asdict(deleted))

    @router.get("/memory", **described(answer=MemoryUse))
    async def show_memory() -> JSONResponse:
        """Who has the memory for KV, in bytes."""
        return JSONResponse(_memory(await administration.memory_use()))

    return router


def _name(request: Request) -> str:
    names = request.query_params.getlist("name")
    if len(names) != 1:
        raise InvalidRequestError("name one agent: ?name=...", field="name")
    return names[0]


def _tenant(request: Request) -> TenantId:
    text = request.query_params.get("tenant", DEFAULT_TENANT)
    try:
        return tenant_id(text)
    except ValueError as error:
        raise InvalidRequestError(str(error), field="tenant") from error


def _footprint(memory: AgentFootprint) -> dict[str, object]:
    return {
        **asdict(memory.summary),
        "blocks": memory.blocks,
        "bytes": memory.nbytes,
        "bytes_alone": memory.nbytes_alone,
    }


def _memory(use: MemoryUse) -> dict[str, object]:
    return {**asdict(use), "pressure": use.pressure.value}
