"""Which blocks of a store would survive its owner, asked beside that owner.

The index says so: a file without a row is swept at the next start. Where there is no index that can
be read, the next start makes one from the files, and so the files say. Changes nothing.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from semantic.adapters.outbound.storage import index_schema
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.index_rows import IndexRows
from semantic.domain.block import PartId, PartKind
from semantic.domain.block_hash import token_bytes
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import BlockKey, Namespace, TenantId


class CommittedBlocks:
    """The port `DurableBlocks` over a folder, which need not exist."""

    def __init__(self, root: Path, listing: BlockListing) -> None:
        self._path = root / index_schema.FILE
        self._listing = listing
        self._rows: IndexRows | None = None

    def committed(self, namespace: Namespace, keys: Sequence[BlockKey]) -> frozenset[BlockKey]:
        """Those of these blocks that would survive; see the port."""
        with suppress(sqlite3.Error, CachePersistenceError):
            return self._opened().committed(namespace, keys)
        return frozenset(key for key in keys if self._has_file(namespace, key))

    def following(
        self, namespace: Namespace, parent: BlockKey, tenant: TenantId
    ) -> Sequence[bytes]:
        """The tokens of such blocks after another; see the port."""
        with suppress(sqlite3.Error, CachePersistenceError):
            return self._opened().following(namespace, parent, tenant)
        found = self._listing.headers(namespace)
        return [
            token_bytes(header.tokens)
            for header in found
            if (header.parent, header.tenant) == (parent, tenant) and header.kind.begins
        ]

    def _opened(self) -> IndexRows:
        if self._rows is None:
            at_rest = not os.path.lexists(f"{self._path}-wal")
            self._rows = IndexRows(index_schema.connect_beside(self._path, at_rest=at_rest))
        return self._rows

    def _has_file(self, namespace: Namespace, key: BlockKey) -> bool:
        parts = (PartId(key, kind) for kind in PartKind if kind.begins)
        return any(os.path.lexists(self._listing.path(namespace, part)) for part in parts)
