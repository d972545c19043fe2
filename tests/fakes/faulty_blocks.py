"""Any block store, with faults: seeded, so that they come again, and none unless asked for."""

import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tests.fakes.observed_stores import PATIENCE_S

from semantic.domain.block import BlockHeader, PartId, PartOutline, StoredPart
from semantic.domain.errors import CacheCorruptionError, CachePersistenceError
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.block_store import BlockStore


class FaultyBlocks:
    """The port `BlockStore`. Of all calls that may fail a `share` does; `faults` counts how.

    Reads fail, find damage, or nothing; writes and deletions fail. What is found damaged is gone
    afterwards, as the port says. Reads of what is `stall`ed wait until it is `release`d.
    """

    def __init__(self, store: BlockStore, *, seed: int = 0, share: float = 0.0) -> None:
        self.share = share
        self.faults: Counter[str] = Counter()
        self._store = store
        self._random = random.Random(seed)  # noqa: S311 - reproducible faults
        self._lock = threading.Lock()
        self._stalled: frozenset[PartId] | None = frozenset()
        self._released = threading.Event()
        self._stopped = threading.Semaphore(0)

    def stall(self, *parts: PartId) -> None:
        """From now on reads of these wait; without any, all do."""
        if self._released.is_set():
            self._released = threading.Event()
        self._stalled = frozenset(parts) if parts else None

    def release(self) -> None:
        """Let everything go on."""
        self._stalled = frozenset()
        self._released.set()

    def wait_stopped(self, count: int = 1) -> None:
        """Return once so many more reads wait."""
        for _ in range(count):
            if not self._stopped.acquire(timeout=PATIENCE_S):
                raise TimeoutError("nobody reads")

    def put(self, *parts: StoredPart) -> None:
        if self._strikes("put"):
            raise CachePersistenceError("no space left on the device: the test says so")
        self._store.put(*parts)

    def get(self, namespace: Namespace, part: PartId) -> StoredPart | None:
        self._stop(part)
        fault = self._strikes("unreadable", "damaged", "absent")
        if fault == "unreadable":
            raise CachePersistenceError("input/output error: the test says so")
        if fault == "damaged":
            self._store.delete(namespace, part)
            raise CacheCorruptionError("the payload differs: the test says so")
        return None if fault == "absent" else self._store.get(namespace, part)

    def exists(self, namespace: Namespace, part: PartId) -> bool:
        return self._store.exists(namespace, part)

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        if self._strikes("delete"):
            raise CachePersistenceError("read-only file system: the test says so")
        self._store.delete(namespace, *parts)

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        return self._store.headers(namespace)

    def outlines(self, namespace: Namespace) -> Iterator[PartOutline]:
        return self._store.outlines(namespace)

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        if self._strikes("tokens"):
            raise CachePersistenceError("the index cannot be read: the test says so")
        return self._store.tokens(namespace, keys)

    def nbytes(self, namespace: Namespace, part: PartId) -> int:
        return self._store.nbytes(namespace, part)

    def _strikes(self, *kinds: str) -> str | None:
        with self._lock:
            if self._random.random() >= self.share:
                return None
            kind = self._random.choice(kinds)
            self.faults[kind] += 1
            return kind

    def _stop(self, part: PartId) -> None:
        if self._stalled is None or part in self._stalled:
            self._stopped.release()
            if not self._released.wait(PATIENCE_S):
                raise TimeoutError("nobody let the disk go on")
