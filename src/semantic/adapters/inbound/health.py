"""Whether the server lives, and whether it works."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from semantic.ports.inference import Inference


def health_router(inference: Inference) -> APIRouter:
    """Probes for people, load balancers and process supervisors."""
    router = APIRouter()

    @router.get("/health/live")
    async def live() -> JSONResponse:
        """Answer as soon as the server listens."""
        return JSONResponse({"status": "live"})

    @router.get("/health/ready")
    @router.get("/health")
    async def ready() -> JSONResponse:
        """Answer 200 once a request would be worked on, and 503 until then."""
        if inference.ready():
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready"}, status_code=503)

    return router
