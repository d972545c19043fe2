"""Recent conversations of those who name no agent, so that generated ids are replayed to them, too.

In memory only, the newest of each tenant. It decides which ids stand for a text, never whether KV
is reused: that is a matter of tokens. Used from one event loop.
"""

from semantic.domain.agent import AgentRecord, Branch, Recall, Segment, remember
from semantic.domain.ids import TenantId


class RecentTurns:
    """At most `limit` conversations of each tenant; 0 remembers none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: dict[TenantId, AgentRecord] = {}

    def branches(self, tenant: TenantId) -> tuple[Branch, ...]:
        """A tenant's conversations, the newest last."""
        record = self._records.get(tenant)
        return record.branches if record else ()

    def remember(self, tenant: TenantId, recalled: Recall, new: tuple[Segment, ...]) -> None:
        """A turn has ended: `recalled` is continued by `new`."""
        if not self._limit:
            return
        record = self._records.get(tenant) or AgentRecord("", "", (), 0.0, tenant)
        self._records[tenant] = remember(record, recalled, new, limit=self._limit, now=0.0)
