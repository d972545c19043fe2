"""What a store remembers, seen from outside. Changes nothing, and needs no engine.

Records are gone through one at a time: together they may be larger than memory. A tenant sees its
own agents, and others are none of its.

What is durable of a memory is what its record on disk names and a gapless chain of committed blocks
covers: text without KV has to be computed again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block_hash import (
    PUBLIC_KEYS,
    TenantKeys,
    block_key,
    root_key,
    tenant_keys,
    tokens_from_bytes,
)
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.errors import AgentNotFoundError
from semantic.domain.ids import DEFAULT_TENANT, BlockKey, Namespace, TenantId, TokenId
from semantic.domain.lineage import Lineage, num_distinct_tokens, private_blocks
from semantic.domain.prefix_index import PrefixIndex, common_length
from semantic.domain.store_secret import StoreSecret
from semantic.ports.administration import AgentFootprint, AgentSummary
from semantic.ports.agent_store import AgentCatalogue
from semantic.ports.block_store import BlockCatalogue, DurableBlocks


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is stored, the secret that it is named under, and who knows what of it would survive."""

    records: AgentCatalogue
    blocks: BlockCatalogue
    secret: StoreSecret
    durable: DurableBlocks


@dataclass(frozen=True, slots=True)
class Memory:
    """An agent's record as it is now, and the one that is safe on disk, if there is one."""

    record: AgentRecord
    saved: AgentRecord | None

    @property
    def owner(self) -> tuple[str, str, str]:
        """Whose it is, of which tenant, and which model's."""
        return (self.record.name, self.record.tenant, self.record.namespace)


def agents(
    stored: Remembered, tenant: TenantId = DEFAULT_TENANT, unsaved: Iterable[Memory] = ()
) -> tuple[AgentSummary, ...]:
    """All memories of a tenant's agents, ordered by name; those in `unsaved` as they are there."""
    summaries = (_summary(memory, stored) for memory in _memories(stored.records, tenant, unsaved))
    return tuple(sorted(summaries, key=lambda found: (found.name, found.namespace)))


def footprints(
    name: str,
    stored: Remembered,
    tenant: TenantId = DEFAULT_TENANT,
    unsaved: Iterable[Memory] = (),
) -> tuple[AgentFootprint, ...]:
    """One agent's memories and what they take.

    Raises:
        InvalidRequestError: if no agent can have that name.
        AgentNotFoundError: if nothing is remembered under it.
    """
    found = _named(name, _memories(stored.records, tenant, unsaved))
    return tuple(_footprint(memory, stored) for memory in found)


def memories(
    name: str, records: AgentCatalogue, tenant: TenantId = DEFAULT_TENANT
) -> tuple[AgentRecord, ...]:
    """An agent's records on disk, one a model; raises as `footprints` does."""
    return tuple(memory.record for memory in _named(name, _memories(records, tenant, ())))


def durable_tokens(
    ids: tuple[TokenId, ...],
    saved: AgentRecord | None,
    secret: StoreSecret,
    durable: DurableBlocks,
) -> int:
    """At least how many leading tokens of a branch survive, `saved` being what does of its record.

    Of a branch that is not saved as a whole those that it shares with one that is.
    """
    branches = saved.branches if saved else ()
    known = max((common_length(ids, branch.ids) for branch in branches), default=0)
    if saved is None or not known:
        return 0
    return _Committed.of(saved, secret, durable).covered(ids[:known])


@dataclass(frozen=True, slots=True)
class _Committed:
    """The blocks of one model that would survive, as one tenant sees them."""

    namespace: Namespace
    root: BlockKey
    mine: TenantKeys
    durable: DurableBlocks

    @classmethod
    def of(cls, record: AgentRecord, secret: StoreSecret, durable: DurableBlocks) -> "_Committed":
        namespace = Namespace(record.namespace)
        mine = tenant_keys(record.tenant, secret)
        return cls(namespace, root_key(namespace, secret), mine, durable)

    def covered(self, ids: tuple[TokenId, ...]) -> int:
        """How many leading tokens blocks cover; where a full one is missing, up to that."""
        public = self._gapless(ids, 0, self.root, PUBLIC_KEYS)
        return max(self._leaving(ids, public[:count]) for count in range(len(public), -1, -1))

    def _leaving(self, ids: tuple[TokenId, ...], public: Sequence[BlockKey]) -> int:
        """The same by way of so many public blocks, and the tenant's own behind them."""
        last = public[-1] if public else self.root
        own = self._gapless(ids, len(public), last, self.mine)
        whole = (len(public) + len(own)) * BLOCK_SIZE
        rest = ids[whole:]
        if not rest or len(rest) >= BLOCK_SIZE:
            return whole
        last = own[-1] if own else last
        tail = block_key(last, rest, b"" if own else self.mine.salt)
        if self.durable.committed(self.namespace, [tail]):
            return len(ids)
        # What was generated and not shown, as after a stop, is in the block as well.
        following = self.durable.following(self.namespace, last, self.mine.tenant)
        held = (common_length(rest, tokens_from_bytes(tokens)) for tokens in following)
        return whole + max(held, default=0)

    def _gapless(
        self, ids: tuple[TokenId, ...], count: int, parent: BlockKey, keys: TenantKeys
    ) -> list[BlockKey]:
        """The full blocks of one tenant behind the first `count`, as far as there is no gap."""
        chain: list[BlockKey] = []
        salt = keys.salt
        for start in range(count * BLOCK_SIZE, len(ids) - BLOCK_SIZE + 1, BLOCK_SIZE):
            parent, salt = block_key(parent, ids[start : start + BLOCK_SIZE], salt), b""
            chain.append(parent)
        there = self.durable.committed(self.namespace, chain)
        return list(takewhile(there.__contains__, chain))


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


def _memories(
    records: AgentCatalogue, tenant: TenantId, unsaved: Iterable[Memory]
) -> Iterator[Memory]:
    waiting = {memory.owner: memory for memory in unsaved if memory.record.tenant == tenant}
    for record in records.list():
        if record.tenant != tenant:
            continue
        found = Memory(record, saved=record)
        newer = waiting.pop(found.owner, found)
        yield newer if newer.record.updated_at >= record.updated_at else found
    yield from waiting.values()


def _named(name: str, memories: Iterable[Memory]) -> tuple[Memory, ...]:
    agent = AgentId.parse(name, field="name")
    found = [memory for memory in memories if memory.record.name == agent.name]
    if not found:
        raise AgentNotFoundError(f"nothing is remembered of an agent named {agent.name!r}")
    return tuple(sorted(found, key=lambda memory: memory.owner))


def _footprint(memory: Memory, stored: Remembered) -> AgentFootprint:
    record = memory.record
    namespace = Namespace(record.namespace)
    own, others = lineages(record, stored.records, stored.secret)
    index = known_blocks(namespace, stored.blocks, stored.secret)
    sizes = {
        header.key: sum(stored.blocks.nbytes(namespace, part) for part in index.parts(header.key))
        for header in own.blocks_in(index)
    }
    alone = private_blocks(index, own, others)
    return AgentFootprint(
        summary=_summary(memory, stored),
        blocks=len(sizes),
        nbytes=sum(sizes.values()),
        nbytes_alone=sum(sizes[key] for key in alone),
    )


def _summary(memory: Memory, stored: Remembered) -> AgentSummary:
    record = memory.record
    branches = [branch.ids for branch in record.branches]
    safe = tuple(
        durable_tokens(ids, memory.saved, stored.secret, stored.durable) for ids in branches
    )
    return AgentSummary(
        name=record.name,
        namespace=record.namespace,
        branches=tuple(len(ids) for ids in branches),
        tokens=num_distinct_tokens(branches),
        last_used=record.updated_at,
        durable_tokens=safe[-1] if safe else 0,
        durable_branches=safe,
    )
