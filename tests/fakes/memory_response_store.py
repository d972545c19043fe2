"""The port `ResponseStore` in memory, with faults on demand."""

from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import TenantId
from semantic.domain.stored_response import ResponseId, StoredResponse


class MemoryResponseStore:
    """Set `failing` to make the medium fail; `damage` responses to have them distrusted."""

    def __init__(self, max_count: int = 1_000_000) -> None:
        self.failing = False
        self._max_count = max_count
        self._kept: dict[tuple[TenantId, ResponseId], StoredResponse] = {}

    def save(self, response: StoredResponse) -> None:
        self._check()
        self._kept.pop((response.tenant, response.id), None)
        self._kept[response.tenant, response.id] = response
        while len(self._kept) > self._max_count:
            del self._kept[next(iter(self._kept))]

    def load(self, tenant: TenantId, response: ResponseId) -> StoredResponse | None:
        self._check()
        found = self._kept.pop((tenant, response), None)
        if found:
            self._kept[tenant, response] = found
        return found

    def delete(self, tenant: TenantId, response: ResponseId) -> bool:
        self._check()
        return self._kept.pop((tenant, response), None) is not None

    def count(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def damage(self, response: StoredResponse) -> None:
        """Make a response one that cannot be trusted."""
        self._kept.pop((response.tenant, response.id), None)

    def _check(self) -> None:
        if self.failing:
            raise CachePersistenceError("the medium fails: the test says so")
