"""What a store remembers, seen from outside. Changes nothing, and needs no engine.

Records are gone through one at a time: together they may be larger than memory. A tenant sees its
own agents, and others are none of its.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block_hash import root_key, tenant_keys
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.errors import AgentNotFoundError
from semantic.domain.ids import DEFAULT_TENANT, Namespace, TenantId, TokenId
from semantic.domain.lineage import Lineage, num_distinct_tokens, private_blocks
from semantic.domain.prefix_index import PrefixIndex
from semantic.domain.store_secret import StoreSecret
from semantic.ports.administration import AgentFootprint, AgentSummary
from semantic.ports.agent_store import AgentCatalogue
from semantic.ports.block_store import BlockCatalogue


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is stored, and the secret that it is named under."""

    records: AgentCatalogue
    blocks: BlockCatalogue
    secret: StoreSecret


def agents(records: AgentCatalogue, tenant: TenantId = DEFAULT_TENANT) -> tuple[AgentSummary, ...]:
    """All memories of a tenant's agents, ordered by name."""
    found = (_summary(record) for record in records.list() if record.tenant == tenant)
    return tuple(sorted(found, key=lambda one: (one.name, one.namespace)))


def footprints(
    name: str, stored: Remembered, tenant: TenantId = DEFAULT_TENANT
) -> tuple[AgentFootprint, ...]:
    """One agent's memories and what they take.

    Raises:
        InvalidRequestError: if no agent can have that name.
        AgentNotFoundError: if nothing is remembered under it.
    """
    return tuple(_footprint(record, stored) for record in memories(name, stored.records, tenant))


def memories(
    name: str, records: AgentCatalogue, tenant: TenantId = DEFAULT_TENANT
) -> tuple[AgentRecord, ...]:
    """An agent's records, one a model; raises as `footprints` does."""
    wanted = (AgentId.parse(name, field="name").name, tenant)
    found = tuple(record for record in records.list() if (record.name, record.tenant) == wanted)
    if not found:
        raise AgentNotFoundError(f"nothing is remembered of an agent named {wanted[0]!r}")
    return tuple(sorted(found, key=lambda record: record.namespace))


def lineages(
    record: AgentRecord, records: AgentCatalogue, secret: StoreSecret
) -> tuple[Lineage, Lineage]:
    """A memory's lineage, and that of all other agents of the same model and tenant."""
    root = root_key(Namespace(record.namespace), secret)
    mine = tenant_keys(record.tenant, secret)
    own = Lineage((branch.ids for branch in record.branches), root, mine, BLOCK_SIZE)
    others = Lineage(_branches_of_others(record, records), root, mine, BLOCK_SIZE, within=own)
    return own, others


def known_blocks(namespace: Namespace, blocks: BlockCatalogue, secret: StoreSecret) -> PrefixIndex:
    """An index of what a store holds of a namespace, tokens staying where they are."""
    fetch = partial(blocks.tokens, namespace)
    index = PrefixIndex(root_key(namespace, secret), BLOCK_SIZE, fetch=fetch)
    index.learn(namespace, blocks.outlines(namespace))
    return index


def _branches_of_others(
    record: AgentRecord, records: AgentCatalogue
) -> Iterator[tuple[TokenId, ...]]:
    place = (record.namespace, record.tenant)
    for other in records.list():
        if (other.namespace, other.tenant) == place and other.name != record.name:
            yield from (branch.ids for branch in other.branches)


def _footprint(record: AgentRecord, stored: Remembered) -> AgentFootprint:
    namespace = Namespace(record.namespace)
    own, others = lineages(record, stored.records, stored.secret)
    index = known_blocks(namespace, stored.blocks, stored.secret)
    sizes = {
        header.key: sum(stored.blocks.nbytes(namespace, part) for part in index.parts(header.key))
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
