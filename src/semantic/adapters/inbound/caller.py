"""Who calls: the tenant that a request's key belongs to."""

from dataclasses import dataclass

from starlette.requests import Request

from semantic.domain.ids import DEFAULT_TENANT, TenantId

STATE = "caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """`key` is the name of the API key; None where nobody needs one."""

    tenant: TenantId = DEFAULT_TENANT
    key: str | None = None


def caller_of(request: Request) -> Caller:
    """Who was let in with `request`."""
    found = getattr(request.state, STATE, None)
    return found if isinstance(found, Caller) else Caller()
