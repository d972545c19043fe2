"""Where responses rest that a client may ask for again."""

from typing import Protocol

from semantic.domain.ids import TenantId
from semantic.domain.stored_response import ResponseId, StoredResponse


class ResponseStore(Protocol):
    """A bounded number of responses. Safe to call from several threads.

    Where there is no room for more, those go that were not used for longest. Saving and loading
    are uses.
    """

    def save(self, response: StoredResponse) -> None:
        """Keep a response, atomically and durably; one of the same id and tenant is replaced.

        Raises:
            CachePersistenceError: if it could not be written, or is larger than all may be.
        """

    def load(self, tenant: TenantId, response: ResponseId) -> StoredResponse | None:
        """A tenant's response; None if there is none, or none that can be trusted.

        Raises:
            CachePersistenceError: if it could not be read; there may be one.
        """

    def delete(self, tenant: TenantId, response: ResponseId) -> bool:
        """Forget a response, durably; whether there was one.

        Raises:
            CachePersistenceError: if it could not be removed.
        """
