"""What is done to a store while its disk is recorded, each to be left at any moment by power loss.

Every store says what it begins and what it has acknowledged. Some workloads use one kind of store
alone, so that none is saved by another's syncs; some are killed on the way, and a new process
goes on with what the last one left in the system's cache.
"""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fakes.blocks import NAMESPACE, SECRET, folder_of, make_part
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.observed_stores import PATIENCE_S, Gate
from tests.fakes.recorded_disk import Killed, Op, RecordedDisk
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.remembered import tokens

from semantic.adapters.outbound.storage import index_rebuild
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.block import BlockHeader, PartId, PartKind, StoredPart
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import Namespace, TokenId

ROOT = "above/store"
"""Where the store is, from the base; neither is there at first."""

FIRST_NAMESPACE = next(
    name
    for name in (Namespace(digit * 64) for digit in "0123456789abcdef")
    if folder_of(name) < folder_of(NAMESPACE)
)
"""Of a model whose blocks are listed before the others'."""


@dataclass(frozen=True, slots=True)
class Putting:
    """Parts may be there from now on."""

    parts: tuple[StoredPart, ...]


@dataclass(frozen=True, slots=True)
class Put:
    """Parts are safe."""

    parts: tuple[StoredPart, ...]


@dataclass(frozen=True, slots=True)
class Deleting:
    """Parts may be gone from now on; `done`: they are, for good."""

    parts: tuple[PartId, ...]
    done: bool


@dataclass(frozen=True, slots=True)
class Saving:
    """Records may be there from now on, None: may be gone; `done`: that is safe."""

    records: Mapping[AgentId, AgentRecord | None]
    done: bool


@dataclass(frozen=True, slots=True)
class Forgetting:
    """An agent's blocks may be gone from now on, before its record is."""

    agent: AgentId


@dataclass(frozen=True, slots=True)
class Recording:
    """What a workload did to the disk, and its name."""

    name: str
    trace: tuple[Op, ...]

    @property
    def workload(self) -> str:
        """The name without the moment at which it was killed."""
        return self.name.rstrip("_0123456789")


class _Blocks(IndexedBlocks):
    def __init__(self, root: Path, disk: RecordedDisk) -> None:
        super().__init__(root, RecordedTelemetry(), FixedClock())
        self._disk = disk
        self.gate = Gate()

    def put(self, *parts: StoredPart) -> None:
        self.gate.enter()
        self._disk.mark(Putting(parts))
        super().put(*parts)
        self._disk.mark(Put(parts))

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        self._disk.mark(Deleting(parts, done=False))
        super().delete(namespace, *parts)
        self._disk.mark(Deleting(parts, done=True))


class _Agents(AgentFiles):
    def __init__(self, root: Path, disk: RecordedDisk) -> None:
        super().__init__(root, RecordedTelemetry())
        self._disk = disk

    def save_all(self, records: Mapping[AgentId, AgentRecord]) -> None:
        self._disk.mark(Saving(dict(records), done=False))
        super().save_all(records)
        self._disk.mark(Saving(dict(records), done=True))

    def delete(self, agent: AgentId) -> None:
        self._disk.mark(Saving({agent: None}, done=False))
        super().delete(agent)
        self._disk.mark(Saving({agent: None}, done=True))


class _Process:
    """One process after the other on a store; a killed one's connections are closed in the end."""

    def __init__(self, disk: RecordedDisk, stack: ExitStack) -> None:
        self.disk = disk
        self.root = disk.base / ROOT
        self._stack = stack
        self._lock = StoreLock(self.root)
        stack.callback(self._lock.release)

    def begin(self) -> None:
        """Take the store."""
        self._lock.acquire()

    def blocks(self) -> _Blocks:
        blocks = _Blocks(self.root, self.disk)
        self._stack.callback(blocks.close)
        return blocks

    def agents(self) -> _Agents:
        return _Agents(self.root, self.disk)

    def put_in_files(self, *parts: StoredPart) -> None:
        """Through a store that has no index."""
        self.disk.mark(Putting(parts))
        BlockFiles(self.root, RecordedTelemetry()).put(*parts)
        self.disk.mark(Put(parts))

    def killed(self, calls: int, work: Callable[[], None]) -> bool:
        """Whether the process died in the middle of some work; a new one begins."""
        self.disk.kill_after(calls)
        with suppress(Killed):
            work()
        died = self.disk.revive()
        self._lock.release()
        self.begin()
        return died


def chain(ids: tuple[TokenId, ...]) -> tuple[StoredPart, ...]:
    """The parts of a conversation: full blocks and a tail."""
    parts: list[StoredPart] = []
    parent: BlockHeader | None = None
    for start in range(0, len(ids), BLOCK_SIZE):
        held = ids[start : start + BLOCK_SIZE]
        kind = PartKind.FULL if len(held) == BLOCK_SIZE else PartKind.TAIL
        parts.append(make_part(held, parent=parent, kind=kind))
        parent = parts[-1].header
    return tuple(parts)


def agent(name: str) -> AgentId:
    """An agent as the store knows it."""
    return AgentId.parse(name, field="name").within(NAMESPACE)


def record(name: str, ids: tuple[TokenId, ...], now: float) -> AgentRecord:
    """An agent that remembers one conversation."""
    return AgentRecord(name, NAMESPACE, (Branch((Segment("text", ids),)),), now)


ANN, BOB = tokens(2 * BLOCK_SIZE + 100), tokens(BLOCK_SIZE + 30, of=2)
LONGER = tokens(3 * BLOCK_SIZE + 7)


def blocks_alone(process: _Process) -> None:
    """Block files without an index: first ones, several, one that is there already."""
    process.begin()
    first, second, tail = chain(ANN)
    process.put_in_files(first)
    process.put_in_files(second, tail)
    process.put_in_files(first)


def deleted(process: _Process) -> None:
    """Blocks with their index, and nothing else: kept, deleted, and one of them kept again."""
    process.begin()
    first, second, tail = chain(ANN)
    blocks = process.blocks()
    blocks.put(first, second, tail)
    blocks.delete(NAMESPACE, tail.header.id, second.header.id)
    blocks.put(second)


def records_alone(process: _Process) -> None:
    """Records: first ones, replaced ones, one deleted."""
    process.begin()
    agents = process.agents()
    agents.save(agent("ann"), AgentRecord("ann", NAMESPACE, (), 1.0))
    both = {agent(name): AgentRecord(name, NAMESPACE, (), 2.0) for name in ("ann", "bob")}
    agents.save_all(both)
    agents.delete(agent("bob"))


def turns(process: _Process) -> None:
    """A server's life: turns of two agents, replaced tails, an agent forgotten."""
    process.begin()
    blocks, agents = process.blocks(), process.agents()
    writes = WriteBehind(blocks, agents, 1 << 30, RecordedTelemetry())
    first, longer, bob = chain(ANN), chain(LONGER), chain(BOB)
    _together(writes, blocks, first, {"ann": record("ann", ANN, 1.0)})
    both = {"ann": record("ann", LONGER, 2.0), "bob": record("bob", BOB, 2.0)}
    _together(writes, blocks, (*longer[2:], *bob), both, replaces=first[-1].header.id)
    done = threading.Event()
    names = tuple(part.header.id for part in bob)
    process.disk.mark(Forgetting(agent("bob")))
    writes.delete(agent("bob"), NAMESPACE, names, lambda _: done.set())
    assert done.wait(PATIENCE_S)
    assert writes.close(PATIENCE_S)


def _together(
    writes: WriteBehind,
    blocks: _Blocks,
    parts: tuple[StoredPart, ...],
    records: Mapping[str, AgentRecord],
    replaces: PartId | None = None,
) -> None:
    """Have parts and records wait together, and then be written."""
    before = make_part((len(parts),), kind=PartKind.TAIL)
    blocks.gate.shut()
    assert writes.submit(before)
    blocks.gate.wait_reached()
    for part in parts:
        assert writes.submit(part, (replaces,) if replaces and part is parts[0] else ())
    saved = [threading.Event() for _ in records]
    for event, (name, found) in zip(saved, records.items(), strict=True):
        writes.save(agent(name), found, lambda _, event=event: event.set())  # type: ignore[misc]
    blocks.gate.open()
    assert all(event.wait(PATIENCE_S) for event in saved)
    blocks.gate.wait_reached()


def rebuilt(process: _Process) -> None:
    """A process dies; another model's block is put in by hand; the index is made anew.

    The dead process's log would number the models otherwise than the new index does.
    """
    process.begin()
    first, second, tail = chain(ANN)
    blocks = process.blocks()
    blocks.put(first)
    blocks.index._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    blocks.put(second)
    other = make_part(namespace=FIRST_NAMESPACE)
    process.disk.mark(Putting((other,)))
    BlockFiles(process.root, RecordedTelemetry()).put(other)
    index_rebuild.rebuild(process.root, BlockListing(process.root, RecordedTelemetry()))
    process.blocks().put(tail)


def killed_while_opening(process: _Process, calls: int) -> bool:
    """A process dies while it opens the store; the next one keeps a block."""

    def opening() -> None:
        process.begin()
        BlockFiles(process.root, RecordedTelemetry())

    died = process.killed(calls, opening)
    process.put_in_files(chain(ANN)[0])
    return died


def killed_while_putting(process: _Process, calls: int) -> bool:
    """A process dies while it keeps two blocks; the next one keeps them and a third."""
    process.begin()
    first, second, tail = chain(ANN)
    blocks = process.blocks()
    died = process.killed(calls, lambda: blocks.put(first, second))
    process.blocks().put(first, second, tail)
    return died


def killed_while_saving(process: _Process, calls: int) -> bool:
    """A process dies while it saves a record; the next one saves another."""
    process.begin()
    agents = process.agents()
    agents.save(agent("ann"), AgentRecord("ann", NAMESPACE, (), 1.0))
    both = {agent(name): AgentRecord(name, NAMESPACE, (), 2.0) for name in ("ann", "bob")}
    died = process.killed(calls, lambda: agents.save_all(both))
    process.agents().save(agent("ann"), AgentRecord("ann", NAMESPACE, (), 3.0))
    return died


def recordings(folder: Path) -> Iterator[Recording]:
    """All workloads, each in a folder of its own."""
    for once in (blocks_alone, deleted, records_alone, turns, rebuilt):
        yield _recorded(once.__name__, folder, once)[0]
    for killed in (killed_while_opening, killed_while_putting, killed_while_saving):
        for calls in range(100):
            recording, died = _recorded(
                f"{killed.__name__}_{calls}",
                folder,
                lambda process: killed(process, calls),  # noqa: B023
            )
            yield recording
            if not died:
                break


def recording_of_turns(folder: Path) -> Recording:
    """A server's life alone."""
    return _recorded(turns.__name__, folder, turns)[0]


def _recorded(
    name: str, folder: Path, work: Callable[[_Process], bool | None]
) -> tuple[Recording, bool]:
    base = folder / name
    base.mkdir()
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        disk = RecordedDisk(base, patch)
        # The store makes its own secret, like any, but one that the judges know.
        patch.setattr(secrets, "token_bytes", lambda _: SECRET.value)
        died = work(_Process(disk, stack))
        trace = tuple(disk.trace)
        patch.undo()
    return Recording(name, trace), bool(died)
