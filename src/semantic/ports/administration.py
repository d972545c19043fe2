"""The way in for operators: what is remembered, how to have it forgotten, what memory is used."""

from dataclasses import dataclass
from typing import Protocol

from semantic.domain.block_pool import Pressure
from semantic.domain.ids import DEFAULT_TENANT, TenantId


@dataclass(frozen=True, slots=True)
class AgentSummary:
    """What one model remembers of an agent. `namespace` is the model's, in full."""

    name: str
    namespace: str
    branches: tuple[int, ...]
    """Tokens of each branch, from the oldest to the newest used."""
    tokens: int
    """Tokens of all branches, a shared beginning counted once."""
    last_used: float
    """Seconds since the epoch."""
    durable_tokens: int
    """Tokens of the newest branch that survive if the server is killed now."""
    durable_branches: tuple[int, ...]
    """The same of each branch, in the order of `branches`."""


@dataclass(frozen=True, slots=True)
class AgentFootprint:
    """The same, and the bytes on disk: of all its blocks, and of those that it alone needs."""

    summary: AgentSummary
    blocks: int
    nbytes: int
    nbytes_alone: int


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was forgotten: an agent's memories, one a model, and the blocks that went with them."""

    name: str
    memories: int
    blocks: int


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """The memory for KV and who has it, in bytes, and the sequences that need it.

    free + held + cached = total: all of it is of one moment.
    """

    total: int
    free: int
    held: int
    """What cannot be had now: by running batches, by reading, and by parts that are in use."""
    cached: int
    """Parts that are kept for reuse, and go when the room is needed."""
    running: int
    """Of what is held: the running batches, with room to grow."""
    reading: int
    """Of what is held: parts on their way from the disk."""
    pressure: Pressure
    in_work: int
    """Sequences that are computed, or for which blocks are read."""
    batches: int
    """Batches in which these decode, or are going to."""
    waiting: int
    """Sequences that have not begun, or wait once more."""
    preemptions: int
    """Times that a sequence gave way to others since the start."""


class Administration(Protocol):
    """What operators ask of a running server. An agent's name is free text, and a tenant's."""

    async def agents(self, tenant: TenantId = DEFAULT_TENANT) -> tuple[AgentSummary, ...]:
        """All memories, ordered by name; an agent has one for each model that it talked to."""

    async def agent(
        self, name: str, tenant: TenantId = DEFAULT_TENANT
    ) -> tuple[AgentFootprint, ...]:
        """One agent's memories.

        Raises:
            InvalidRequestError: if no agent can have that name.
            AgentNotFoundError: if nothing is remembered under it.
        """

    async def delete_agent(self, name: str, tenant: TenantId = DEFAULT_TENANT) -> Deletion:
        """Forget an agent, and every block that no other of the tenant needs, everywhere.

        Raises:
            InvalidRequestError: if no agent can have that name.
            AgentNotFoundError: if nothing is remembered under it.
            AgentBusyError: if it is being answered; nothing has been forgotten then.
            CachePersistenceError: if not all could be removed; what is left is still found.
        """

    async def memory_use(self) -> MemoryUse:
        """The memory for KV, of all tenants, as it was a moment ago. Waits for nothing."""
