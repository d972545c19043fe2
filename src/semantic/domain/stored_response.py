"""An answered request as it is kept, to be shown again and to be gone on from.

JSON is kept as text here, in the words of the API that wrote it: nothing inside looks into it.
"""

from dataclasses import dataclass
from typing import NewType

from semantic.domain.ids import DEFAULT_TENANT, TenantId

ResponseId = NewType("ResponseId", str)
"""One response, as the client sees it."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One link of a chain: what was new in the request, and what was answered.

    `asked` is a JSON list, `answered` a JSON object. `previous` is the response that this one goes
    on from, `first` the one that the chain begins with: itself, where there is no previous one.
    """

    id: ResponseId
    created_at: float
    """Seconds since the epoch."""
    asked: str
    answered: str
    first: ResponseId
    previous: ResponseId | None = None
    tenant: TenantId = DEFAULT_TENANT
