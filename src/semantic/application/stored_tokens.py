"""Tokens of blocks that rest in a store, for an index that holds few itself.

The engine's thread asks, and all requests wait for it: a store that is silent for too long is
waited for no more until it has answered. Whatever it cannot tell is not found, and recomputed.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial

from semantic.application.disk_threads import DiskThreads
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.block_store import BlockStore
from semantic.ports.telemetry import Telemetry


class StoredTokens:
    """Those of one namespace. Without a `store` there are none."""

    store: BlockStore | None = None

    def __init__(self, namespace: Namespace, silence_s: float, telemetry: Telemetry) -> None:
        self._namespace = namespace
        self._silence_s = silence_s
        self._telemetry = telemetry
        self._threads = DiskThreads("stored-tokens", limit=1)
        self._late: Future[Mapping[BlockKey, bytes]] | None = None

    def fetch(self, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        """The tokens of such blocks, as far as they can be had in time. Owned by one thread."""
        if self.store is None or not keys or self._hangs:
            return {}
        asked = self._threads.begin(partial(self.store.tokens, self._namespace, keys))
        try:
            return asked.result(self._silence_s)
        except CachePersistenceError as error:
            self._telemetry.warning("tokens_unreadable", error=str(error))
        except TimeoutError:
            self._late = asked
            error_text = f"the store has not answered for {self._silence_s:g} s"
            self._telemetry.warning("tokens_unreadable", error=error_text)
        return {}

    @property
    def _hangs(self) -> bool:
        """Whether the store still owes an answer."""
        if self._late is not None and self._late.done():
            self._late = None
        return self._late is not None
