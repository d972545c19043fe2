"""A real store under load in a process that may be killed, and its journal of what is durable.

What goes into the store can be told from names alone (`part_of`), so that whoever reads it
knows what must be there. The journal says when something is durable after the store has said so,
and that something is to go before the store hears of it.
"""

import hashlib
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_part
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.disk_space import DiskSpace
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.application.space_keeper import Served, SpaceKeeper, SpaceLimits
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.block import BlockHeader, PartId, PartKind, PartOutline, StoredPart
from semantic.domain.block_hash import token_bytes
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import BlockKey, Namespace, TokenId

Tokens = tuple[TokenId, ...]

NAMES = ("ann", "ben", "cid", "dot", "eve", "fay")
SYSTEM = tuple(range(300))
"""What every conversation begins with: a block that all share, and a bit."""

_LONGEST = 2000
_BRANCHES = 3
_QUEUE_BYTES = 4 << 20
_BACKLOG = 6
"""Turns that may wait to be written."""
_EXTRAS = (PartKind.SLIDING, PartKind.STATE)
_MARKED = 0.4
"""How many full blocks have parts beside the one they exist by."""


def namespace_of(name: str) -> Namespace:
    """Two of the agents talk to a model that does not run."""
    return OTHER_NAMESPACE if name in NAMES[-2:] else NAMESPACE


def part_of(header: BlockHeader) -> StoredPart:
    """The part that a header stands for: its bytes follow from its name."""
    seed = int(header.key[:12], 16)
    return StoredPart(header, make_part(header.tokens, kind=header.kind, seed=seed).tensors)


def chain_of(tokens: Tokens, namespace: Namespace) -> Iterator[BlockHeader]:
    """The parts by which the blocks of a conversation exist, the tail's last."""
    parent: BlockHeader | None = None
    for start in range(0, len(tokens), BLOCK_SIZE):
        stretch = tokens[start : start + BLOCK_SIZE]
        kind = PartKind.FULL if len(stretch) == BLOCK_SIZE else PartKind.TAIL
        parent = make_part(stretch, parent=parent, namespace=namespace, kind=kind).header
        yield parent


@dataclass
class Journal:
    """Lines to a descriptor: what happened, to which namespace or agent, and the parts."""

    descriptor: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, *words: str) -> None:
        line = memoryview((" ".join(words) + "\n").encode())
        try:
            with self._lock:
                while line:
                    line = line[os.write(self.descriptor, line) :]
        except OSError:  # nobody listens any more, and nobody would end us
            os._exit(1)

    def parts(self, what: str, namespace: Namespace, parts: Sequence[PartId]) -> None:
        self.note(what, namespace, *(f"{part.key}.{part.kind.value}" for part in parts))


@dataclass
class JournalledBlocks:
    """The port `BlockStore` over the real one."""

    inner: IndexedBlocks
    journal: Journal

    def put(self, *parts: StoredPart) -> None:
        for part in parts:
            self.journal.parts("putting", part.header.namespace, [part.header.id])
        self.inner.put(*parts)
        for part in parts:
            self.journal.parts("put", part.header.namespace, [part.header.id])

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        self.journal.parts("going", namespace, parts)
        self.inner.delete(namespace, *parts)
        self.journal.parts("gone", namespace, parts)

    def get(self, namespace: Namespace, part: PartId) -> StoredPart | None:
        return self.inner.get(namespace, part)

    def exists(self, namespace: Namespace, part: PartId) -> bool:
        return self.inner.exists(namespace, part)

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        return self.inner.headers(namespace)

    def outlines(self, namespace: Namespace) -> Iterator[PartOutline]:
        return self.inner.outlines(namespace)

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        return self.inner.tokens(namespace, keys)

    def nbytes(self, namespace: Namespace, part: PartId) -> int:
        return self.inner.nbytes(namespace, part)


@dataclass
class JournalledAgents:
    """The port `AgentStore` over the real one. A record's number is when it was updated."""

    inner: AgentFiles
    journal: Journal

    def save(self, agent: AgentId, record: AgentRecord) -> None:
        self.save_all({agent: record})

    def save_all(self, records: Mapping[AgentId, AgentRecord]) -> None:
        for agent, record in records.items():
            self.journal.note("saving", agent.name, str(int(record.updated_at)), digest_of(record))
        self.inner.save_all(records)
        for agent, record in records.items():
            self.journal.note("saved", agent.name, str(int(record.updated_at)))

    def load(self, agent: AgentId) -> AgentRecord | None:
        return self.inner.load(agent)

    def delete(self, agent: AgentId) -> None:
        self.journal.note("forgetting", agent.name)
        self.inner.delete(agent)
        self.journal.note("forgot", agent.name)

    def list(self) -> Iterator[AgentRecord]:
        return self.inner.list()


def digest_of(record: AgentRecord) -> str:
    """What tells one record from another."""
    ids = b"|".join(token_bytes(branch.ids) for branch in record.branches)
    return hashlib.sha256(record.name.encode() + ids).hexdigest()[:16]


class IndexFirst(IndexedBlocks):
    """Wrong: knows parts before their files are there."""

    def put(self, *parts: StoredPart) -> None:
        with self._changing:
            self._know([part.header for part in parts], ())
            self._files.put(*parts)


class FilesGoFirst(IndexedBlocks):
    """Wrong: knows parts after their files are gone."""

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        with self._changing:
            for part in parts:
                self._files.delete(namespace, part)
            self.index.remove(namespace, parts)


class RecordFirst(WriteBehind):
    """Wrong: does not let records wait for the blocks that they name."""

    def save(self, agent: AgentId, record: AgentRecord, done: Callable[[bool], None]) -> None:
        self._agents.save(agent, record)
        done(True)  # noqa: FBT003 - the callback's one argument


WRONG_ORDERS = ("index before file", "file gone before row", "record before blocks")

_STORES = {WRONG_ORDERS[0]: IndexFirst, WRONG_ORDERS[1]: FilesGoFirst}


@dataclass(frozen=True, slots=True)
class Life:
    """What a process is to do until it is killed. `cap` None: the store may take what it likes.

    `idle_s`: how long nothing is asked of it at first, so that it can put its store in order.
    """

    root: Path
    seed: int
    cap: int | None
    idle_s: float = 0.0
    wrong_order: str | None = None


def live(life: Life, descriptor: int) -> None:
    """Open the store and keep it busy for ever."""
    journal, telemetry, clock = Journal(descriptor), RecordedTelemetry(), SystemClock()
    journal.note("starting")
    StoreLock(life.root).acquire()
    store = _STORES.get(life.wrong_order or "", IndexedBlocks)(life.root, telemetry, clock)
    blocks = JournalledBlocks(store, journal)
    agents = JournalledAgents(AgentFiles(life.root, telemetry), journal)
    limits = SpaceLimits(life.cap or 1 << 60, 1.0, 0, 0, True, 0.9, 0.8, 60.0)  # noqa: FBT003
    space = DiskSpace(life.root, store, clock)
    keeper = SpaceKeeper(blocks, space, limits, clock, telemetry)
    writing = RecordFirst if life.wrong_order == WRONG_ORDERS[2] else WriteBehind
    writes = writing(blocks, agents, _QUEUE_BYTES, telemetry, keeper)
    load = Load(blocks, agents, writes, random.Random(life.seed))  # noqa: S311 - reproducible
    writes.tend(Served(NAMESPACE, 300, load.active))
    journal.note("started")
    threading.Event().wait(life.idle_s)
    threading.Thread(target=load.read_for_ever, args=(journal,), daemon=True).start()
    for number in itertools.count(life.seed << 20):
        load.turn(number)


class Load:
    """Conversations that go on, branch off, are forgotten, and share their beginning."""

    def __init__(
        self,
        blocks: JournalledBlocks,
        agents: JournalledAgents,
        writes: WriteBehind,
        numbers: random.Random,
    ) -> None:
        self._blocks, self._agents, self._writes = blocks, agents, writes
        self._numbers = numbers
        self._backlog = threading.Semaphore(_BACKLOG)
        self._records: dict[str, AgentRecord] = {}
        self._wanted: dict[PartId, PartOutline] = {}
        self._known: set[PartId] = set()
        self._active: frozenset[BlockKey] = frozenset()
        for name in NAMES:
            record = agents.load(_agent(name))
            self._records[name] = record or _empty(name)
        for namespace in (NAMESPACE, OTHER_NAMESPACE):
            self._wanted.update((one.id, one) for one in blocks.outlines(namespace))
        self._known.update(self._wanted)

    def active(self) -> frozenset[BlockKey]:
        return self._active

    def turn(self, number: int) -> None:
        """Something happens to an agent."""
        self._backlog.acquire()
        for fate in self._writes.fates():
            if not fate.kept:
                self._known.discard(fate.part)
            elif fate.part in self._wanted:  # what went before has come again
                self._known.add(fate.part)
        name = self._numbers.choice(NAMES)
        record = self._records[name]
        luck = self._numbers.random()
        if luck < 0.08 and record.branches:
            self._forget(name)
            return
        if luck < 0.2:
            self._thin_out(name)
        last = record.branches[-1].ids if record.branches else SYSTEM
        others = record.branches[:-1]
        if luck > 0.85 or len(last) > _LONGEST:  # a changed history starts a branch
            others, last = record.branches, last[: self._numbers.randrange(len(SYSTEM), 700)]
        added = self._numbers.choices(range(1000, 50_000), k=self._numbers.randrange(1, 500))
        ids = (*last, *added)
        self._remember(name, (*others, Branch((Segment("text", ids),)))[-_BRANCHES:], number, last)

    def read_for_ever(self, journal: Journal) -> None:
        """Read what is there while it is written, and complain if it is not what it should be."""
        while True:
            for name in NAMES:
                record, namespace = self._records[name], namespace_of(name)
                for branch in record.branches:
                    for header in chain_of(branch.ids, namespace):
                        found = self._blocks.get(namespace, header.id)
                        if found not in (None, part_of(header)):
                            journal.note("wrong", header.key)

    def _remember(
        self, name: str, branches: tuple[Branch, ...], number: int, before: Tokens
    ) -> None:
        namespace, ids = namespace_of(name), branches[-1].ids
        chain, outgrown = list(chain_of(ids, namespace)), list(chain_of(before, namespace))[-1]
        keys = tuple(header.key for header in chain)
        for header in chain:
            if not self._submit(header, self._replaced(header, outgrown)):
                break
            for kind in _EXTRAS:
                if header.kind is PartKind.TAIL or self._numbers.random() < _MARKED:
                    self._submit(replace(header, kind=kind), ())
        self._active = frozenset(keys)
        self._writes.used(namespace, keys)
        record = AgentRecord(name, namespace, branches, float(number))
        self._records[name] = record
        self._writes.save(_agent(name), record, lambda _: self._backlog.release())

    def _submit(self, header: BlockHeader, replaces: tuple[PartId, ...]) -> bool:
        if header.id in self._known:
            return True
        if not self._writes.submit(part_of(header), replaces):
            return False
        self._known.add(header.id)
        self._wanted[header.id] = header.outline
        self._unknow(replaces)
        return True

    def _unknow(self, parts: Iterable[PartId]) -> None:
        self._known.difference_update(parts)
        for part in parts:
            self._wanted.pop(part, None)

    def _replaced(self, header: BlockHeader, tail: BlockHeader) -> tuple[PartId, ...]:
        """What goes when the block of `header` takes the place of an old tail."""
        if tail.kind is not PartKind.TAIL or tail.start != header.start or tail.key == header.key:
            return ()
        return tuple(part for part in _parts_of(tail) if part in self._known)

    def _thin_out(self, name: str) -> None:
        """Give up what windows need of some blocks."""
        held = self._parts(name)
        chosen = tuple(part for part in held if part.kind is PartKind.SLIDING)
        chosen = chosen[: self._numbers.randrange(4)]
        self._unknow(chosen)
        self._writes.discard(namespace_of(name), chosen)

    def _forget(self, name: str) -> None:
        doomed = self._parts(name)
        self._unknow(doomed)
        self._records[name] = _empty(name)
        self._writes.delete(
            _agent(name), namespace_of(name), doomed, lambda _: self._backlog.release()
        )

    def _parts(self, name: str) -> tuple[PartId, ...]:
        """What is known of an agent and what follows, but for the block that all share."""
        first, *_ = chain_of(SYSTEM, namespace_of(name))
        own = {
            header.key
            for branch in self._records[name].branches
            for header in chain_of(branch.ids, namespace_of(name))
            if header.key != first.key
        }
        found = []
        # What a block exists by comes first, as in the cache's index.
        for one in sorted(self._wanted.values(), key=lambda one: (one.start, not one.kind.begins)):
            if one.key in own or (one.kind.begins and one.parent in own):
                own.add(one.key)
                found.append(one.id)
        return tuple(found)


def _agent(name: str) -> AgentId:
    return AgentId.parse(name, field="name")


def _empty(name: str) -> AgentRecord:
    return AgentRecord(name, namespace_of(name), branches=(), updated_at=0.0)


def _parts_of(header: BlockHeader) -> tuple[PartId, ...]:
    return tuple(PartId(header.key, kind) for kind in (header.kind, *_EXTRAS))
