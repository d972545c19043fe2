"""Forgetting an agent in a store that no engine uses.

Blocks go before the record that leads to them: a deletion that was cut short can be repeated.
"""

from dataclasses import dataclass

from semantic.application.agent_inspection import known_blocks, lineages, memories
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import PartId, num_blocks
from semantic.domain.ids import DEFAULT_TENANT, Namespace, TenantId
from semantic.domain.lineage import Lineage, private_blocks
from semantic.domain.store_secret import StoreSecret
from semantic.ports.administration import Deletion
from semantic.ports.agent_store import AgentStore
from semantic.ports.block_store import BlockStore


@dataclass(frozen=True, slots=True)
class Forgettable:
    """What is stored, to be changed, and the secret that it is named under."""

    records: AgentStore
    blocks: BlockStore
    secret: StoreSecret


def delete_agent(name: str, stored: Forgettable, tenant: TenantId = DEFAULT_TENANT) -> Deletion:
    """Forget a tenant's agent, and every block that no other agent of that tenant needs.

    Raises:
        InvalidRequestError: if no agent can have that name.
        AgentNotFoundError: if nothing is remembered under it.
        CachePersistenceError: if something could not be removed; the record stands then.
    """
    found = memories(name, stored.records, tenant)
    removed = sum(delete_memory(record, stored) for record in found)
    return Deletion(name=found[0].name, memories=len(found), blocks=removed)


def delete_memory(record: AgentRecord, stored: Forgettable) -> int:
    """Forget what one model remembers of an agent; the number of blocks that went."""
    namespace = Namespace(record.namespace)
    own, others = lineages(record, stored.records, stored.secret)
    doomed = private_parts(namespace, own, others, stored)
    # What a block exists by goes last: what adds to it would not be found without it.
    stored.blocks.delete(namespace, *reversed(doomed))
    agent = AgentId.parse(record.name, field="name").within(namespace, record.tenant)
    stored.records.delete(agent)
    return num_blocks(doomed)


def private_parts(
    namespace: Namespace, own: Lineage, others: Lineage, stored: Forgettable
) -> tuple[PartId, ...]:
    """What is stored of `own` and what follows it, as far as the others can do without."""
    index = known_blocks(namespace, stored.blocks, stored.secret)
    tops = private_blocks(index, own, others)
    return tuple(part for top in tops for part in index.remove_all(top))
