"""Stores in memory that keep a journal, can be held up, and fail in more ways than one."""

import threading
from dataclasses import dataclass, field

from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.memory_block_store import MemoryBlockStore

from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import PartId, StoredPart
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import AgentKey, Namespace

PATIENCE_S = 10.0
"""How long a test waits for what must come. Only a failing test waits that long."""


@dataclass
class Gate:
    """Who passes is counted, and waits while it is shut."""

    _open: threading.Event = field(default_factory=threading.Event)
    _reached: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def enter(self) -> None:
        self._reached.release()
        if not self._open.wait(PATIENCE_S):
            raise TimeoutError("nobody opened the gate")

    def wait_reached(self) -> None:
        """Return once somebody has come to the gate, who was not waited for before."""
        if not self._reached.acquire(timeout=PATIENCE_S):
            raise TimeoutError("nobody came to the gate")


@dataclass
class Journal:
    """What was done, in order, and what must not succeed."""

    entries: list[tuple[str, PartId | AgentKey]] = field(default_factory=list)
    refused: set[PartId] = field(default_factory=set)
    exploding: set[PartId] = field(default_factory=set)
    undeletable: set[PartId] = field(default_factory=set)
    unsavable: set[AgentKey] = field(default_factory=set)

    def check(self, part: PartId) -> None:
        if part in self.refused:
            raise CachePersistenceError("the disk is full")
        if part in self.exploding:
            raise RuntimeError("a bug in the store")


class ObservedBlocks(MemoryBlockStore):
    """`writing` and `reading` are passed before anything is done."""

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__()
        self.journal = journal or Journal()
        self.writing, self.reading = Gate(), Gate()

    def put(self, *parts: StoredPart) -> None:
        for part in parts:
            self.writing.enter()
            self.journal.check(part.header.id)
        super().put(*parts)
        self.journal.entries.extend(("put", part.header.id) for part in parts)

    def get(self, namespace: Namespace, part: PartId) -> StoredPart | None:
        self.reading.enter()
        self.journal.check(part)
        self.journal.entries.append(("get", part))
        return super().get(namespace, part)

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        for part in parts:
            if part in self.journal.undeletable:
                raise CachePersistenceError("the folder is read-only")
            super().delete(namespace, part)
            self.journal.entries.append(("delete", part))


class ObservedAgents(MemoryAgentStore):
    """`reading` is passed after a record has been read; `unreadable` is a bug behind it."""

    unreadable = False

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__()
        self.journal = journal or Journal()
        self.reading, self.writing = Gate(), Gate()

    def save(self, agent: AgentId, record: AgentRecord) -> None:
        self.writing.enter()
        if agent.key in self.journal.unsavable:
            raise CachePersistenceError("the disk is full")
        super().save(agent, record)
        self.journal.entries.append(("save", agent.key))

    def load(self, agent: AgentId) -> AgentRecord | None:
        record = super().load(agent)
        self.journal.entries.append(("load", agent.key))
        self.reading.enter()
        if self.unreadable:
            raise RuntimeError("a bug in the store")
        return record
