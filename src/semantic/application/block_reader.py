"""Reading blocks off the engine's thread. Bytes cross threads, arrays do not."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from semantic.application.write_behind import WriteBehind
from semantic.domain.block import PartId, StoredPart
from semantic.domain.errors import SemanticError
from semantic.domain.ids import Namespace
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
        parts: Sequence[PartId],
        done: Callable[[PartId, StoredPart | None], None],
    ) -> None:
        """Read `parts`; `done` is called once for each, from a reading thread, in any order.

        A part that is absent, damaged or foreign comes as None, with a warning.
        """
        for part in parts:
            self._pool.submit(copy_context().run, self._read, namespace, part, done)

    def close(self) -> None:
        """Start no more reads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(
        self,
        namespace: Namespace,
        part: PartId,
        done: Callable[[PartId, StoredPart | None], None],
    ) -> None:
        found = self._writes.pending(part)
        try:
            if found is None:
                found = self._store.get(namespace, part)
            if found is None:
                self._telemetry.warning("block_unusable", **_named(part), error="not in the store")
        except SemanticError as error:
            self._telemetry.warning("block_unusable", **_named(part), error=str(error))
        except Exception as error:  # noqa: BLE001 - whatever the disk does, the request goes on
            self._telemetry.error("block_unusable", **_named(part), error=repr(error))
        done(part, found)


def _named(part: PartId) -> dict[str, str]:
    """How events name a part."""
    return {"key": part.key, "part": part.kind.value}
