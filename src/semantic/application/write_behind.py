"""Blocks and records on their way to disk, off the engine's thread.

One thread writes in the order of submission: an agent's record is written after the blocks that
its turn sealed. The queue is bounded in bytes; what finds no room is refused, never waited for.
Until a block is written it can be read here, so that it is never in neither place. Invariant:
whoever waits for a record hears of it, also when it is handed in too late.
"""

import queue
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import BlockHeader, PartId, StoredPart
from semantic.domain.errors import CachePersistenceError, SemanticError
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.agent_store import AgentStore
from semantic.ports.block_store import BlockStore
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class _Write:
    part: StoredPart
    replaces: tuple[PartId, ...]
    context: Context = field(default_factory=copy_context)
    """In which it is written, so that log lines name the request it comes from."""


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
    context: Context = field(default_factory=copy_context)


class _Last:
    """Nothing comes after it."""


_Item = _Write | _Save | _Delete | _Discard


class WriteBehind:
    """Owns the writing thread. `submit` and `save` may be called from any thread."""

    def __init__(
        self, blocks: BlockStore, agents: AgentStore, limit_bytes: int, telemetry: Telemetry
    ) -> None:
        self._blocks = blocks
        self._agents = agents
        self._limit = limit_bytes
        self._telemetry = telemetry
        self._queue: queue.SimpleQueue[_Item | _Last] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: dict[PartId, StoredPart] = {}
        self._unwritten: set[BlockKey] = set()
        self._nbytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    def submit(self, part: StoredPart, replaces: tuple[PartId, ...] = ()) -> bool:
        """Write `part`, then delete the parts it replaces. False if it will not be written.

        That is so if the queue has no room, or is closed.
        """
        with self._lock:
            if self._closed or self._nbytes + part.nbytes > self._limit:
                return False
            self._nbytes += part.nbytes
            self._pending[part.header.id] = part
            self._queue.put(_Write(part, replaces))
        return True

    def save(self, agent: AgentId, record: AgentRecord, done: Callable[[bool], None]) -> None:
        """Save a record after all blocks submitted so far; `done` hears if that worked.

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

    def discard(self, namespace: Namespace, parts: tuple[PartId, ...]) -> None:
        """Delete parts that are no longer worth their space; too late, they stay."""
        self._queued(_Discard(namespace, parts))

    def pending(self, part: PartId) -> StoredPart | None:
        """A part that is not on disk yet."""
        with self._lock:
            return self._pending.get(part)

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

    def _queued(self, item: _Item) -> bool:
        with self._lock:
            if not self._closed:
                self._queue.put(item)
            return not self._closed

    def _run(self) -> None:
        while not isinstance(item := self._queue.get(), _Last):
            item.context.run(self._perform, item)

    def _perform(self, item: _Item) -> None:
        match item:
            case _Write():
                self._write(item)
            case _Save():
                self._save(item)
            case _Delete():
                self._forget(item)
            case _Discard(namespace, parts):
                self._delete_parts(namespace, parts)

    def _put(self, part: StoredPart) -> None:
        """Write a part, unless what it builds on is missing: a chain on disk has no hole."""
        header = part.header
        below = header.parent if header.kind.begins else header.key
        if below in self._unwritten:
            raise CachePersistenceError("the block before it could not be written")
        self._blocks.put(part)
        if header.kind.begins:
            self._unwritten.discard(header.key)

    def _write(self, write: _Write) -> None:
        header = write.part.header
        try:
            self._put(write.part)
            self._delete_parts(header.namespace, write.replaces)
        except SemanticError as error:
            # The part stays usable in memory; after a restart it is recomputed.
            self._not_written(header)
            self._telemetry.warning(
                "block_not_written", key=header.key, part=header.kind.value, error=str(error)
            )
        except Exception as error:  # noqa: BLE001 - the writer must outlive any one part
            self._not_written(header)
            self._telemetry.error(
                "block_not_written", key=header.key, part=header.kind.value, error=repr(error)
            )
        finally:
            with self._lock:
                self._nbytes -= write.part.nbytes
                if self._pending.get(header.id) is write.part:
                    del self._pending[header.id]

    def _not_written(self, header: BlockHeader) -> None:
        if header.kind.begins:
            self._unwritten.add(header.key)

    def _delete_parts(self, namespace: Namespace, parts: tuple[PartId, ...]) -> bool:
        """Whether all of them went.

        `parts` come as the index has them, what a block exists by first, and go the other way
        round: what is left after half of it, or if one cannot go, is still found as a block.
        """
        stuck: set[BlockKey] = set()
        for part in reversed(parts):
            if part.key in stuck:
                continue
            try:
                self._blocks.delete(namespace, part)
            except Exception as error:  # noqa: BLE001 - it only takes space
                self._telemetry.warning("block_not_deleted", key=part.key, error=repr(error))
                stuck.add(part.key)
        return not stuck

    def _save(self, save: _Save) -> None:
        saved = False
        try:
            self._agents.save(save.agent, save.record)
            saved = True
        except Exception as error:  # noqa: BLE001 - the one who waits hears that it failed
            self._telemetry.warning("agent_not_saved", agent=save.agent.key, error=repr(error))
        self._tell(save.done, saved)

    def _forget(self, delete: _Delete) -> None:
        deleted = self._delete_parts(delete.namespace, delete.parts)
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
