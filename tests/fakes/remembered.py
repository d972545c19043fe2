"""Agents in stores, as finished answers leave them behind."""

from collections.abc import Sequence

from tests.fakes.blocks import NAMESPACE, make_block

from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.block import BlockHeader, BlockKind
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import BlockKey, Namespace, TokenId
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
) -> set[BlockKey]:
    """Store an agent and the blocks of its branches; the keys of those."""
    agent = AgentId.parse(name, field="name")
    record = AgentRecord(
        name=agent.name,
        namespace=namespace,
        branches=tuple(Branch((Segment("text", tuple(ids)),)) for ids in branches),
        updated_at=float(len(name)),
    )
    records.save(agent.within(namespace), record)
    return {key for ids in branches for key in store_blocks(blocks, ids, namespace)}


def store_blocks(
    blocks: BlockStore, ids: Sequence[TokenId], namespace: Namespace = NAMESPACE
) -> list[BlockKey]:
    """Store the blocks of a token sequence, a tail for the rest."""
    keys: list[BlockKey] = []
    parent: BlockHeader | None = None
    for start in range(0, len(ids), BLOCK_SIZE):
        held = tuple(ids[start : start + BLOCK_SIZE])
        kind = BlockKind.FULL if len(held) == BLOCK_SIZE else BlockKind.TAIL
        block = make_block(held, parent=parent, namespace=namespace, kind=kind)
        blocks.put(block)
        parent = block.header
        keys.append(parent.key)
    return keys
