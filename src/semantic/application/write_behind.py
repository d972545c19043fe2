"""Blocks and records on their way to disk, off the engine's thread.

One thread writes in the order of submission: an agent's record is written after the blocks that
its turn sealed. What waits together is committed together: all blocks, then all records. The queue
is bounded in bytes; what finds no room is refused, never waited for. Until a block is written it
can be read here, so that it is never in neither place. Invariant: whoever waits for a record hears
of it, also when it is handed in too late.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from semantic.application.block_writer import BlockWriter, Fate, Write, below
from semantic.application.record_size import record_size
from semantic.application.space_keeper import Served, SpaceKeeper
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import PartId, StoredPart
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.agent_store import AgentStore
from semantic.ports.block_store import BlockStore
from semantic.ports.telemetry import Telemetry

_TOGETHER_BYTES = 64 << 20
_TOGETHER = 64
"""Parts and records that wait together are written together, up to so many, and so many bytes."""


@dataclass(frozen=True, slots=True)
class _Save:
    agent: AgentId
    record: AgentRecord
    done: Callable[[bool], None]
    context: Context = field(default_factory=copy_context)


@dataclass(frozen=True, slots=True)
class _Delete:
    agent: AgentId
    namespace: Namespace
    parts: tuple[PartId, ...]
    done: Callable[[bool], None]
    context: Context = field(default_factory=copy_context)


@dataclass(frozen=True, slots=True)
class _Discard:
    namespace: Namespace
    parts: tuple[PartId, ...]
    done: Callable[[bool], None] = lambda _: None
    context: Context = field(default_factory=copy_context)


@dataclass(frozen=True, slots=True)
class _Use:
    namespace: Namespace
    keys: tuple[BlockKey, ...]
    context: Context = field(default_factory=copy_context)


@dataclass(frozen=True, slots=True)
class _Tend:
    served: Served
    context: Context = field(default_factory=copy_context)


class _Last:
    """Nothing comes after it."""


_Item = Write | _Save | _Delete | _Discard | _Use | _Tend


class WriteBehind:
    """Owns the writing thread. What is handed in may come from any thread.

    A `keeper` holds the store within its limits; without one it has none.
    """

    def __init__(
        self,
        blocks: BlockStore,
        agents: AgentStore,
        limit_bytes: int,
        telemetry: Telemetry,
        keeper: SpaceKeeper | None = None,
    ) -> None:
        self._agents = agents
        self._limit = limit_bytes
        self._telemetry = telemetry
        self._keeper = keeper
        self._fates: deque[Fate] = deque()
        self._writer = BlockWriter(blocks, keeper, telemetry, self._fates.append)
        self._chores: Iterator[None] | None = None
        self._next: _Item | _Last | None = None
        self._queue: queue.SimpleQueue[_Item | _Last] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: dict[PartId, StoredPart] = {}
        self._nbytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    @property
    def writing(self) -> bool:
        """Whether anything is written at all now; why not, the keeper has told."""
        return self._keeper is None or self._keeper.writing

    def has_room(self, nbytes: int) -> bool:
        """Whether a part of so many bytes would be taken now."""
        with self._lock:
            return self._takes(nbytes)

    def submit(self, part: StoredPart, replaces: tuple[PartId, ...] = ()) -> bool:
        """Write `part`, then delete the parts it replaces. False if it will not be written.

        That is so if the queue has no room, or is closed, or nothing is written now.
        """
        with self._lock:
            if not self._takes(part.nbytes):
                return False
            self._nbytes += part.nbytes
            self._pending[part.header.id] = part
            self._queue.put(Write(part, replaces))
        return True

    def save(self, agent: AgentId, record: AgentRecord, done: Callable[[bool], None]) -> None:
        """Save a record after all blocks submitted so far; `done` hears if that worked.

        It does not if the store has no room for it, or nothing is written now.

        `done` is called from the writing thread; at once, and from this one, if it is closed.
        """
        if not self._queued(_Save(agent, record, done)):
            self._telemetry.warning("agent_not_saved", agent=agent.key, error="the store is closed")
            done(False)  # noqa: FBT003 - the callback's one argument

    def delete(
        self,
        agent: AgentId,
        namespace: Namespace,
        parts: tuple[PartId, ...],
        done: Callable[[bool], None],
    ) -> None:
        """Delete parts, and the agent's record if all of them went; `done` as in `save`.

        What was handed in before is written first, and so does not come back afterwards.
        """
        if not self._queued(_Delete(agent, namespace, parts, done)):
            done(False)  # noqa: FBT003 - the callback's one argument

    def discard(
        self,
        namespace: Namespace,
        parts: tuple[PartId, ...],
        done: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Delete parts that are no longer worth their space; too late, they stay. `done` as above.

        They come as `BlockWriter.delete` takes them, and go the other way round.
        """
        if not self._queued(_Discard(namespace, parts, done)):
            done(False)  # noqa: FBT003 - the callback's one argument

    def used(self, namespace: Namespace, keys: tuple[BlockKey, ...]) -> None:
        """Blocks have been used: they are given up later than others."""
        if self._keeper is not None and keys:
            self._queued(_Use(namespace, keys))

    def tend(self, served: Served) -> None:
        """From now on keep the store in order, whenever there is nothing to write."""
        if self._keeper is not None:
            self._queued(_Tend(served))

    def fates(self) -> Iterator[Fate]:
        """What became of parts since it was asked last; to be asked by one thread only."""
        while self._fates:
            yield self._fates.popleft()

    def pending(self, part: PartId) -> StoredPart | None:
        """A part that is not on disk yet."""
        with self._lock:
            return self._pending.get(part)

    def all_pending(self) -> tuple[StoredPart, ...]:
        """All parts that are not on disk yet."""
        with self._lock:
            return tuple(self._pending.values())

    def close(self, timeout_s: float) -> bool:
        """Write what is queued and end. False if that took longer than `timeout_s`.

        May be called again, to wait longer.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(_Last())
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _takes(self, nbytes: int) -> bool:
        return not self._closed and self.writing and self._nbytes + nbytes <= self._limit

    def _queued(self, item: _Item) -> bool:
        with self._lock:
            if not self._closed:
                self._queue.put(item)
            return not self._closed

    def _run(self) -> None:
        while not isinstance(item := self._awaited(), _Last):
            if isinstance(item, (Write, _Save)):
                self._commit(item)
            else:
                item.context.run(self._perform, item)

    def _awaited(self) -> _Item | _Last:
        """The next item; until it comes, the store is put in order."""
        if self._next is not None:
            item, self._next = self._next, None
            return item
        while True:
            try:
                return self._queue.get(timeout=self._patience_s())
            except queue.Empty:
                self._guarded(self._do_chores)

    def _patience_s(self) -> float | None:
        if self._chores is not None:
            return 0.0
        return self._keeper.patience_s if self._keeper is not None else None

    def _do_chores(self) -> None:
        if self._chores is None:
            if self._keeper is not None:
                self._keeper.look()
            return
        chores, self._chores = self._chores, None
        for _ in chores:
            self._chores = chores  # it has not failed, nor come to its end
            return

    def _perform(self, item: _Delete | _Discard | _Use | _Tend) -> None:
        match item:
            case _Delete():
                self._forget(item)
            case _Discard(namespace, parts, done):
                self._tell(done, self._writer.delete(namespace, parts))
            case _Use(namespace, keys):
                self._guarded(lambda: self._writer.used(namespace, keys))
            case _Tend(served):
                self._chores = self._writer.tend(served)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do what may fail without harm to anybody."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the writer must outlive it
            self._telemetry.warning("store_not_tended", error=repr(error))

    def _commit(self, first: Write | _Save) -> None:
        """Write down an item together with those that wait behind it: blocks, then records."""
        writes, saves = self._together(first)
        if writes:
            self._write(writes)
        if saves:
            self._save(saves)

    def _write(self, writes: list[Write]) -> None:
        awaited = self._followed()
        try:
            writes[0].context.copy().run(self._writer.write, writes, awaited)
        finally:
            with self._lock:
                for write in writes:
                    self._nbytes -= write.part.nbytes
                    if self._pending.get(write.part.header.id) is write.part:
                        del self._pending[write.part.header.id]

    def _together(self, first: Write | _Save) -> tuple[list[Write], list[_Save]]:
        writes: list[Write] = []
        saves: list[_Save] = []
        item: _Item | _Last = first
        while True:
            match item:
                case Write():
                    writes.append(item)
                case _Save():
                    saves.append(item)
                case _:
                    self._next = item
                    break
            nbytes = sum(write.part.nbytes for write in writes)
            if len(writes) + len(saves) == _TOGETHER or nbytes >= _TOGETHER_BYTES:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        return writes, saves

    def _save(self, saves: list[_Save]) -> None:
        """Write records, of each agent the newest only, and tell all who wait."""
        newest = {save.agent: save for save in saves}
        together = False
        with suppress(Exception):  # one by one it turns out which, and why
            together = len(newest) > 1 and self._save_all(list(newest.values()))
        saved = frozenset(
            agent
            for agent, save in newest.items()
            if together or save.context.run(self._saved, save)
        )
        for save in saves:
            save.context.run(self._tell, save.done, save.agent in saved)

    def _saved(self, save: _Save) -> bool:
        try:
            return self._save_all([save])
        except Exception as error:  # noqa: BLE001 - the one who waits hears that it failed
            self._telemetry.warning("agent_not_saved", agent=save.agent.key, error=repr(error))
            return False

    def _save_all(self, saves: list[_Save]) -> bool:
        """Save records if there is room for them; if there is none, the keeper has told why."""
        nbytes = sum(record_size(save.record) for save in saves)
        if not self._writer.room_for_records(nbytes, len(saves), self._followed()):
            return False
        self._agents.save_all({save.agent: save.record for save in saves})
        self._guarded(lambda: self._writer.wrote_records(nbytes))
        return True

    def _followed(self) -> frozenset[BlockKey]:
        """The blocks on which parts build that are still to be written."""
        with self._lock:
            return frozenset(below(part.header) for part in self._pending.values())

    def _forget(self, delete: _Delete) -> None:
        deleted = self._writer.delete(delete.namespace, delete.parts)
        try:
            if deleted:
                self._agents.delete(delete.agent)
        except Exception as error:  # noqa: BLE001 - the one who waits hears that it failed
            self._telemetry.warning("agent_not_deleted", agent=delete.agent.key, error=repr(error))
            deleted = False
        self._tell(delete.done, deleted)

    def _tell(self, done: Callable[[bool], None], outcome: bool) -> None:  # noqa: FBT001 - `done`'s
        try:
            done(outcome)
        except Exception as error:  # noqa: BLE001 - a listener must not end the writer
            self._telemetry.error("listener_failed", error=repr(error))
