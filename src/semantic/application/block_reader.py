"""Reading blocks off the engine's thread. Bytes cross threads, arrays do not."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from semantic.application.write_behind import WriteBehind
from semantic.domain.block import StoredBlock
from semantic.domain.errors import SemanticError
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.block_store import BlockStore
from semantic.ports.telemetry import Telemetry


class BlockReader:
    """Owns the reading threads."""

    def __init__(
        self, store: BlockStore, writes: WriteBehind, threads: int, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._writes = writes
        self._telemetry = telemetry
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="block-reader")

    def read(
        self,
        namespace: Namespace,
        keys: Sequence[BlockKey],
        done: Callable[[BlockKey, StoredBlock | None], None],
    ) -> None:
        """Read `keys`; `done` is called once for each, from a reading thread, in any order.

        A block that is absent, damaged or foreign comes as None, with a warning.
        """
        for key in keys:
            self._pool.submit(copy_context().run, self._read, namespace, key, done)

    def close(self) -> None:
        """Start no more reads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(
        self,
        namespace: Namespace,
        key: BlockKey,
        done: Callable[[BlockKey, StoredBlock | None], None],
    ) -> None:
        block = self._writes.pending(key)
        try:
            if block is None:
                block = self._store.get(namespace, key)
            if block is None:
                self._telemetry.warning("block_unusable", key=key, error="it is not in the store")
        except SemanticError as error:
            self._telemetry.warning("block_unusable", key=key, error=str(error))
        except Exception as error:  # noqa: BLE001 - whatever the disk does, the request goes on
            self._telemetry.error("block_unusable", key=key, error=repr(error))
        done(key, block)
