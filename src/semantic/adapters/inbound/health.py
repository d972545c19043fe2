"""Whether the server lives, and whether it works."""

from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from typing_extensions import TypedDict

from semantic.adapters.inbound.openapi import described
from semantic.ports.inference import Inference

_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE.value


class HealthTold(TypedDict):
    """How it is."""

    status: str


class AilmentTold(HealthTold):
    """What is wrong."""

    reason: str


_DESCRIBED = described(answer=HealthTold, others={_UNAVAILABLE: AilmentTold})


def health_router(inference: Inference) -> APIRouter:
    """Probes for people, load balancers and process supervisors."""
    router = APIRouter()

    @router.get("/health/live", **_DESCRIBED)
    async def live() -> JSONResponse:
        """Answer 200 as long as starting the server anew would mend nothing, and 503 then."""
        if reason := inference.failure():
            return JSONResponse({"status": "dead", "reason": reason}, _UNAVAILABLE)
        return JSONResponse({"status": "live"})

    @router.get("/health/ready", **_DESCRIBED)
    @router.get("/health", **_DESCRIBED)
    async def ready() -> JSONResponse:
        """Answer 200 once a request would be worked on, and 503 until then."""
        if inference.ready():
            return JSONResponse({"status": "ready"})
        reason = inference.failure() or "the engine is not running"
        return JSONResponse({"status": "not ready", "reason": reason}, _UNAVAILABLE)

    return router
