"""An `Administration` over a list."""

from dataclasses import dataclass, field

from semantic.domain.agent import AgentId
from semantic.domain.block_pool import Pressure
from semantic.domain.errors import AgentNotFoundError
from semantic.domain.ids import DEFAULT_TENANT, TenantId
from semantic.ports.administration import AgentFootprint, AgentSummary, Deletion, MemoryUse

USE = MemoryUse(
    total=1_000,
    free=200,
    held=500,
    cached=300,
    running=400,
    reading=50,
    pressure=Pressure.MODERATE,
    in_work=3,
    batches=2,
    waiting=1,
    preemptions=4,
)
"""What it says of the memory for KV."""


@dataclass
class ScriptedAdministration:
    """Implements the port `Administration`; `failure` is raised instead of deleting."""

    found: list[AgentSummary] = field(default_factory=list)
    failure: Exception | None = None

    async def agents(self, tenant: TenantId = DEFAULT_TENANT) -> tuple[AgentSummary, ...]:
        return self._of(tenant)

    async def agent(
        self, name: str, tenant: TenantId = DEFAULT_TENANT
    ) -> tuple[AgentFootprint, ...]:
        return tuple(AgentFootprint(found, 2, 300, 200) for found in self._named(name, tenant))

    async def delete_agent(self, name: str, tenant: TenantId = DEFAULT_TENANT) -> Deletion:
        if self.failure is not None:
            raise self.failure
        gone = self._named(name, tenant)
        self.found = [found for found in self.found if found not in gone]
        return Deletion(gone[0].name, memories=len(gone), blocks=2)

    async def memory_use(self) -> MemoryUse:
        return USE

    def _of(self, tenant: TenantId) -> tuple[AgentSummary, ...]:
        """All of them are the default tenant's."""
        return tuple(self.found) if tenant == DEFAULT_TENANT else ()

    def _named(self, name: str, tenant: TenantId) -> list[AgentSummary]:
        agent = AgentId.parse(name, field="name")
        found = [found for found in self._of(tenant) if found.name == agent.name]
        if not found:
            raise AgentNotFoundError(f"nothing is remembered of {agent.name!r}")
        return found
