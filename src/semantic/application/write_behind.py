"""Blocks and records on their way to disk, off the engine's thread.

One thread writes in the order of submission: an agent's record is written after the blocks that
its turn sealed. The queue is bounded in bytes; what finds no room is refused, never waited for.
Until a block is written it can be read here, so that it is never in neither place.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import StoredBlock
from semantic.domain.errors import SemanticError
from semantic.domain.ids import BlockKey
from semantic.ports.agent_store import AgentStore
from semantic.ports.block_store import BlockStore
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class _Write:
    block: StoredBlock
    replaces: tuple[BlockKey, ...]


@dataclass(frozen=True, slots=True)
class _Save:
    agent: AgentId
    record: AgentRecord
    done: Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class _Flush:
    done: threading.Event = field(default_factory=threading.Event)
    last: bool = False


class WriteBehind:
    """Owns the writing thread. `submit` and `save` may be called from any thread."""

    def __init__(
        self, blocks: BlockStore, agents: AgentStore, limit_bytes: int, telemetry: Telemetry
    ) -> None:
        self._blocks = blocks
        self._agents = agents
        self._limit = limit_bytes
        self._telemetry = telemetry
        self._queue: queue.SimpleQueue[_Write | _Save | _Flush] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending: dict[BlockKey, StoredBlock] = {}
        self._nbytes = 0
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    def submit(self, block: StoredBlock, replaces: tuple[BlockKey, ...] = ()) -> bool:
        """Write `block`, then delete the blocks it replaces. False if the queue has no room."""
        with self._lock:
            if self._nbytes + block.nbytes > self._limit:
                return False
            self._nbytes += block.nbytes
            self._pending[block.header.key] = block
        self._queue.put(_Write(block, replaces))
        return True

    def save(self, agent: AgentId, record: AgentRecord, done: Callable[[bool], None]) -> None:
        """Save a record after all blocks submitted so far; `done` hears if that worked.

        `done` is called from the writing thread.
        """
        self._queue.put(_Save(agent, record, done))

    def pending(self, key: BlockKey) -> StoredBlock | None:
        """A block that is not on disk yet."""
        with self._lock:
            return self._pending.get(key)

    def close(self, timeout_s: float) -> bool:
        """Write what is queued and end. False if that took longer than `timeout_s`."""
        flush = _Flush(last=True)
        self._queue.put(flush)
        return flush.done.wait(timeout_s)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, _Flush):
                item.done.set()
                if item.last:
                    return
            elif isinstance(item, _Save):
                item.done(self._saved(item))
            else:
                self._write(item)

    def _write(self, write: _Write) -> None:
        header = write.block.header
        try:
            self._blocks.put(write.block)
            for key in write.replaces:
                self._blocks.delete(header.namespace, key)
        except SemanticError as error:
            # The block stays usable in memory; after a restart it is recomputed.
            self._telemetry.warning("block_not_written", key=header.key, error=str(error))
        except Exception as error:  # noqa: BLE001 - the writer must outlive any one block
            self._telemetry.error("block_not_written", key=header.key, error=repr(error))
        finally:
            with self._lock:
                self._nbytes -= write.block.nbytes
                if self._pending.get(header.key) is write.block:
                    del self._pending[header.key]

    def _saved(self, save: _Save) -> bool:
        try:
            self._agents.save(save.agent, save.record)
        except Exception as error:  # noqa: BLE001 - as above; the caller hears that it failed
            self._telemetry.warning("agent_not_saved", agent=save.agent.key, error=str(error))
            return False
        return True
