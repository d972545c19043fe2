"""What a store remembers, seen from outside. Changes nothing, and needs no engine.

Records are gone through one at a time: together they may be larger than memory.

What is durable of a memory is what its record on disk names and a gapless chain of committed blocks
covers: text without KV has to be computed again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block_hash import block_key, full_blocks, root_key, tokens_from_bytes
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.errors import AgentNotFoundError
from semantic.domain.ids import Namespace, TokenId
from semantic.domain.lineage import Lineage, num_distinct_tokens, private_blocks
from semantic.domain.prefix_index import PrefixIndex, common_length
from semantic.ports.administration import AgentFootprint, AgentSummary
from semantic.ports.agent_store import AgentCatalogue
from semantic.ports.block_store import BlockCatalogue, DurableBlocks


@dataclass(frozen=True, slots=True)
class Memory:
    """An agent's record as it is now, and the one that is safe on disk, if there is one."""

    record: AgentRecord
    saved: AgentRecord | None

    @property
    def owner(self) -> tuple[str, str]:
        """Whose it is, and which model's."""
        return (self.record.name, self.record.namespace)


def agents(
    records: AgentCatalogue, durable: DurableBlocks, unsaved: Iterable[Memory] = ()
) -> tuple[AgentSummary, ...]:
    """All memories, ordered by name; those in `unsaved` as they are there."""
    summaries = (_summary(memory, durable) for memory in _memories(records, unsaved))
    return tuple(sorted(summaries, key=lambda found: (found.name, found.namespace)))


def footprints(
    name: str,
    records: AgentCatalogue,
    blocks: BlockCatalogue,
    durable: DurableBlocks,
    unsaved: Iterable[Memory] = (),
) -> tuple[AgentFootprint, ...]:
    """One agent's memories and what they take.

    Raises:
        InvalidRequestError: if no agent can have that name.
        AgentNotFoundError: if nothing is remembered under it.
    """
    return tuple(
        _footprint(memory, records, blocks, durable) for memory in _named(name, records, unsaved)
    )


def memories(name: str, records: AgentCatalogue) -> tuple[AgentRecord, ...]:
    """An agent's records on disk, one a model; raises as `footprints` does."""
    return tuple(memory.record for memory in _named(name, records, ()))


def durable_tokens(
    ids: tuple[TokenId, ...], saved: AgentRecord | None, durable: DurableBlocks
) -> int:
    """At least how many leading tokens of a branch survive, `saved` being what does of its record.

    Of a branch that is not saved as a whole those that it shares with one that is.
    """
    branches = saved.branches if saved else ()
    known = max((common_length(ids, branch.ids) for branch in branches), default=0)
    return _covered(ids[:known], Namespace(saved.namespace), durable) if saved and known else 0


def _covered(ids: tuple[TokenId, ...], namespace: Namespace, durable: DurableBlocks) -> int:
    """How many leading tokens blocks cover; where a full one is missing, up to that."""
    root = root_key(namespace)
    keys = [key for _, key in full_blocks(root, ids, BLOCK_SIZE)]
    rest = ids[len(keys) * BLOCK_SIZE :]
    last = keys[-1] if keys else root
    tail = block_key(last, rest)
    there = durable.committed(namespace, [*keys, tail] if rest else keys)
    gapless = sum(1 for _ in takewhile(there.__contains__, keys))
    if gapless < len(keys) or not rest:
        return gapless * BLOCK_SIZE
    if tail in there:
        return len(ids)
    # What was generated and not shown, as after a stop, is in the block as well.
    following = map(tokens_from_bytes, durable.following(namespace, last))
    held = max((common_length(rest, tokens) for tokens in following), default=0)
    return gapless * BLOCK_SIZE + held


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


def _memories(records: AgentCatalogue, unsaved: Iterable[Memory]) -> Iterator[Memory]:
    waiting = {memory.owner: memory for memory in unsaved}
    for record in records.list():
        found = Memory(record, saved=record)
        newer = waiting.pop(found.owner, found)
        yield newer if newer.record.updated_at >= record.updated_at else found
    yield from waiting.values()


def _named(name: str, records: AgentCatalogue, unsaved: Iterable[Memory]) -> tuple[Memory, ...]:
    agent = AgentId.parse(name, field="name")
    found = [memory for memory in _memories(records, unsaved) if memory.record.name == agent.name]
    if not found:
        raise AgentNotFoundError(f"nothing is remembered of an agent named {agent.name!r}")
    return tuple(sorted(found, key=lambda memory: memory.owner))


def _footprint(
    memory: Memory, records: AgentCatalogue, blocks: BlockCatalogue, durable: DurableBlocks
) -> AgentFootprint:
    record = memory.record
    namespace = Namespace(record.namespace)
    own, others = lineages(record, records)
    index = known_blocks(namespace, blocks)
    sizes = {
        header.key: sum(blocks.nbytes(namespace, part) for part in index.parts(header.key))
        for header in own.blocks_in(index)
    }
    alone = private_blocks(index, own, others)
    return AgentFootprint(
        summary=_summary(memory, durable),
        blocks=len(sizes),
        nbytes=sum(sizes.values()),
        nbytes_alone=sum(sizes[key] for key in alone),
    )


def _summary(memory: Memory, durable: DurableBlocks) -> AgentSummary:
    record = memory.record
    branches = [branch.ids for branch in record.branches]
    safe = tuple(durable_tokens(ids, memory.saved, durable) for ids in branches)
    return AgentSummary(
        name=record.name,
        namespace=record.namespace,
        branches=tuple(len(ids) for ids in branches),
        tokens=num_distinct_tokens(branches),
        last_used=record.updated_at,
        durable_tokens=safe[-1] if safe else 0,
        durable_branches=safe,
    )
