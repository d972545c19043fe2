"""Forgetting an agent in a store that no engine uses.

Blocks go before the record that leads to them: a deletion that was cut short can be repeated.
"""

from semantic.application.agent_inspection import known_blocks, lineages, memories
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import num_blocks
from semantic.domain.ids import Namespace
from semantic.domain.lineage import private_blocks
from semantic.ports.administration import Deletion
from semantic.ports.agent_store import AgentStore
from semantic.ports.block_store import BlockStore


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
    index = known_blocks(namespace, blocks)
    own, others = lineages(record, records)
    tops = private_blocks(index, own, others)
    doomed = [part for top in tops for part in index.remove_all(top)]
    # What a block exists by goes last: what adds to it would not be found without it.
    blocks.delete(namespace, *reversed(doomed))
    records.delete(AgentId.parse(record.name, field="name").within(namespace))
    return num_blocks(doomed)
