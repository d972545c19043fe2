"""What a store remembers, seen from outside. Changes nothing, and needs no engine.

Records are gone through one at a time: together they may be larger than memory.
"""

from collections.abc import Iterator
from functools import partial

from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block_hash import root_key
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.errors import AgentNotFoundError
from semantic.domain.ids import Namespace, TokenId
from semantic.domain.lineage import Lineage, num_distinct_tokens, private_blocks
from semantic.domain.prefix_index import PrefixIndex
from semantic.ports.administration import AgentFootprint, AgentSummary
from semantic.ports.agent_store import AgentCatalogue
from semantic.ports.block_store import BlockCatalogue


def agents(records: AgentCatalogue) -> tuple[AgentSummary, ...]:
    """All memories, ordered by name."""
    return tuple(
        sorted(map(_summary, records.list()), key=lambda found: (found.name, found.namespace))
    )


def footprints(
    name: str, records: AgentCatalogue, blocks: BlockCatalogue
) -> tuple[AgentFootprint, ...]:
    """One agent's memories and what they take.

    Raises:
        InvalidRequestError: if no agent can have that name.
        AgentNotFoundError: if nothing is remembered under it.
    """
    return tuple(_footprint(record, records, blocks) for record in memories(name, records))


def memories(name: str, records: AgentCatalogue) -> tuple[AgentRecord, ...]:
    """An agent's records, one a model; raises as `footprints` does."""
    agent = AgentId.parse(name, field="name")
    found = tuple(record for record in records.list() if record.name == agent.name)
    if not found:
        raise AgentNotFoundError(f"nothing is remembered of an agent named {agent.name!r}")
    return tuple(sorted(found, key=lambda record: record.namespace))


def lineages(record: AgentRecord, records: AgentCatalogue) -> tuple[Lineage, Lineage]:
    """A memory's lineage, and that of all other agents of the same model."""
    root = root_key(Namespace(record.namespace))
    own = Lineage((branch.ids for branch in record.branches), root, BLOCK_SIZE)
    others = Lineage(_branches_of_others(record, records), root, BLOCK_SIZE, within=own)
    return own, others


def known_blocks(namespace: Namespace, blocks: BlockCatalogue) -> PrefixIndex:
    """An index of what a store holds of a namespace, tokens staying where they are."""
    fetch = partial(blocks.tokens, namespace)
    index = PrefixIndex(root_key(namespace), BLOCK_SIZE, fetch=fetch)
    index.learn(namespace, blocks.outlines(namespace))
    return index


def _branches_of_others(
    record: AgentRecord, records: AgentCatalogue
) -> Iterator[tuple[TokenId, ...]]:
    for other in records.list():
        if other.namespace == record.namespace and other.name != record.name:
            yield from (branch.ids for branch in other.branches)


def _footprint(
    record: AgentRecord, records: AgentCatalogue, blocks: BlockCatalogue
) -> AgentFootprint:
    namespace = Namespace(record.namespace)
    own, others = lineages(record, records)
    index = known_blocks(namespace, blocks)
    sizes = {
        header.key: sum(blocks.nbytes(namespace, part) for part in index.parts(header.key))
        for header in own.blocks_in(index)
    }
    alone = private_blocks(index, own, others)
    return AgentFootprint(
        summary=_summary(record),
        blocks=len(sizes),
        nbytes=sum(sizes.values()),
        nbytes_alone=sum(sizes[key] for key in alone),
    )


def _summary(record: AgentRecord) -> AgentSummary:
    branches = [branch.ids for branch in record.branches]
    return AgentSummary(
        name=record.name,
        namespace=record.namespace,
        branches=tuple(len(ids) for ids in branches),
        tokens=num_distinct_tokens(branches),
        last_used=record.updated_at,
    )
