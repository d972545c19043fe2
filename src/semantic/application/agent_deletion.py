"""Forgetting an agent in a store that no engine uses.

Blocks go before the record that leads to them: a deletion that was cut short can be repeated.
"""

from semantic.application.agent_inspection import known_blocks, lineages, memories
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import PartId, num_blocks
from semantic.domain.ids import Namespace
from semantic.domain.lineage import Lineage, private_blocks
from semantic.ports.administration import Deletion
from semantic.ports.agent_store import AgentStore
from semantic.ports.block_store import BlockCatalogue, BlockStore


def delete_agent(name: str, records: AgentStore, blocks: BlockStore) -> Deletion:
    """Forget an agent, and every block that no other agent needs.

    Raises:
        InvalidRequestError: if no agent can have that name.
        AgentNotFoundError: if nothing is remembered under it.
        CachePersistenceError: if something could not be removed; the record stands then.
    """
    found = memories(name, records)
    removed = sum(delete_memory(record, records, blocks) for record in found)
    return Deletion(name=found[0].name, memories=len(found), blocks=removed)


def delete_memory(record: AgentRecord, records: AgentStore, blocks: BlockStore) -> int:
    """Forget what one model remembers of an agent; the number of blocks that went."""
    namespace = Namespace(record.namespace)
    own, others = lineages(record, records)
    doomed = private_parts(namespace, own, others, blocks)
    # What a block exists by goes last: what adds to it would not be found without it.
    blocks.delete(namespace, *reversed(doomed))
    records.delete(AgentId.parse(record.name, field="name").within(namespace))
    return num_blocks(doomed)


def private_parts(
    namespace: Namespace, own: Lineage, others: Lineage, blocks: BlockCatalogue
) -> tuple[PartId, ...]:
    """What is stored of `own` and what follows it, as far as the others can do without."""
    index = known_blocks(namespace, blocks)
    tops = private_blocks(index, own, others)
    return tuple(part for top in tops for part in index.remove_all(top))
