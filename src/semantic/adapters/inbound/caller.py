"""Who calls: the tenant that a request's key belongs to."""

from dataclasses import dataclass

from starlette.requests import Request

from semantic.domain.api_key import NO_LIMITS, KeyLimits
from semantic.domain.ids import DEFAULT_TENANT, KeyName, TenantId

STATE = "caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """`key` is the name of the API key; None where nobody needs one. `limits` are what it has."""

    tenant: TenantId = DEFAULT_TENANT
    key: KeyName | None = None
    limits: KeyLimits = NO_LIMITS


def caller_of(request: Request) -> Caller:
    """Who was let in with `request`."""
    found = getattr(request.state, STATE, None)
    return found if isinstance(found, Caller) else Caller()
