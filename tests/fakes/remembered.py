"""Agents in stores, as finished answers leave them behind."""

from collections.abc import Sequence

from tests.fakes.blocks import NAMESPACE, make_part

from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.block import BlockHeader, PartKind
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import DEFAULT_TENANT, BlockKey, Namespace, TenantId, TokenId
from semantic.ports.agent_store import AgentStore
from semantic.ports.block_store import BlockStore


def tokens(count: int, *, of: int = 1) -> tuple[TokenId, ...]:
    """Some tokens; those of different numbers share none."""
    return tuple(range(of * 10_000, of * 10_000 + count))


def remember(
    records: AgentStore,
    blocks: BlockStore,
    name: str,
    *branches: Sequence[TokenId],
    namespace: Namespace = NAMESPACE,
    extras: Sequence[PartKind] = (),
    tenant: TenantId = DEFAULT_TENANT,
) -> set[BlockKey]:
    """Store an agent and the blocks of its branches; the keys of those."""
    agent = AgentId.parse(name, field="name")
    record = AgentRecord(
        name=agent.name,
        namespace=namespace,
        branches=tuple(Branch((Segment("text", tuple(ids)),)) for ids in branches),
        updated_at=float(len(name)),
        tenant=tenant,
    )
    records.save(agent.within(namespace, tenant), record)
    return {key for ids in branches for key in store_blocks(blocks, ids, namespace, extras, tenant)}


def store_blocks(
    blocks: BlockStore,
    ids: Sequence[TokenId],
    namespace: Namespace = NAMESPACE,
    extras: Sequence[PartKind] = (),
    tenant: TenantId = DEFAULT_TENANT,
) -> list[BlockKey]:
    """Store the blocks of a token sequence, a tail for the rest, with `extras` added to each.

    On disk they are only found again under the secret of `plant_secret`.
    """
    keys: list[BlockKey] = []
    parent: BlockHeader | None = None
    for start in range(0, len(ids), BLOCK_SIZE):
        held = tuple(ids[start : start + BLOCK_SIZE])
        begins = PartKind.FULL if len(held) == BLOCK_SIZE else PartKind.TAIL
        parts = [
            make_part(held, parent=parent, namespace=namespace, kind=kind, tenant=tenant)
            for kind in (begins, *extras)
        ]
        for part in parts:
            blocks.put(part)
        parent = parts[0].header
        keys.append(parent.key)
    return keys
