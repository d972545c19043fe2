"""Questions to the index of a store: what there is, what follows what, what it takes.

Reads only, so that it may be used beside the process that owns the store. Safe to call from
several threads.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from semantic.domain.block import PartId, PartKind, PartOutline
from semantic.domain.errors import CachePersistenceError
from semantic.domain.eviction import KeptPart
from semantic.domain.ids import BlockKey, Namespace, TenantId, tenant_id

_KEY_BYTES = 32
_KINDS = {kind.value: kind for kind in PartKind}
_BEGINNING: tuple[str | bytes, ...] = tuple(kind.value for kind in PartKind if kind.begins)
_AT_ONCE = 500
"""Keys looked up with one question: SQLite takes so many values at least."""


class IndexRows:
    """The rows behind a connection. All raise CachePersistenceError if it fails."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._reading = threading.Lock()

    def close(self) -> None:
        """Give the connection back."""
        with self._reading:
            self._reader.close()

    def contains(self, namespace: Namespace, part: PartId) -> bool:
        """Whether there is a row for the part."""
        found = self._rows(
            "SELECT 1 FROM part JOIN namespace ON namespace.id = part.namespace "
            "WHERE name = ? AND key = ? AND kind = ?",
            *(namespace, bytes.fromhex(part.key), part.kind.value),
        )
        return bool(found)

    def known_as(
        self, namespace: Namespace, part: PartId
    ) -> tuple[BlockKey, int, TenantId, bytes | None] | None:
        """A part's parent, start and tenant, and its block's tokens; None if it has no row."""
        found = self._rows(
            "SELECT parent, start, tenant.name, tokens FROM part "
            "JOIN namespace ON namespace.id = part.namespace "
            "JOIN tenant ON tenant.id = part.tenant "
            "LEFT JOIN tokens ON tokens.namespace = part.namespace AND tokens.key = part.key "
            "WHERE namespace.name = ? AND part.key = ? AND kind = ?",
            *(namespace, bytes.fromhex(part.key), part.kind.value),
        )
        for parent, start, tenant, tokens in found:
            return BlockKey(parent.hex()), start, tenant_id(tenant), tokens
        return None

    def within(self, namespaces: Iterable[Namespace], first: str) -> dict[PartId, Namespace]:
        """Parts of some namespaces whose key begins with `first`."""
        lowest = bytes.fromhex(first)
        return {
            PartId(BlockKey(key.hex()), _KINDS[kind]): namespace
            for namespace in namespaces
            for key, kind in self._rows(
                "SELECT key, kind FROM part JOIN namespace ON namespace.id = part.namespace "
                "WHERE name = ? AND key >= ? AND key <= ?",
                *(namespace, lowest, lowest + b"\xff" * (_KEY_BYTES - len(lowest))),
            )
        }

    def committed(self, namespace: Namespace, keys: Sequence[BlockKey]) -> frozenset[BlockKey]:
        """Those of these blocks that there are; see the port `DurableBlocks`."""
        found: set[BlockKey] = set()
        for first in range(0, len(keys), _AT_ONCE):
            some: list[str | bytes] = [bytes.fromhex(key) for key in keys[first : first + _AT_ONCE]]
            rows = self._rows(
                "SELECT key FROM part WHERE namespace = (SELECT id FROM namespace WHERE name = ?) "  # noqa: S608 - only marks
                f"AND kind IN (?, ?) AND key IN ({', '.join('?' * len(some))})",
                *(namespace, *_BEGINNING, *some),
            )
            found.update(BlockKey(key.hex()) for (key,) in rows)
        return frozenset(found)

    def following(
        self, namespace: Namespace, parent: BlockKey, tenant: TenantId
    ) -> Sequence[bytes]:
        """The tokens of a tenant's blocks that follow another."""
        rows = self._rows(
            "SELECT tokens.tokens FROM part JOIN tokens USING (namespace, key) "
            "WHERE part.namespace = (SELECT id FROM namespace WHERE name = ?) "
            "AND part.parent = ? AND kind IN (?, ?) "
            "AND tenant = (SELECT id FROM tenant WHERE name = ?)",
            *(namespace, bytes.fromhex(parent), *_BEGINNING, tenant),
        )
        return [tokens for (tokens,) in rows]

    def unfounded(self) -> dict[PartId, Namespace]:
        """Parts by which blocks exist whose parents do not: nobody finds them."""
        found = self._rows(
            "SELECT name, key, kind FROM part JOIN namespace ON namespace.id = part.namespace "
            "WHERE start > 0 AND kind IN ('full', 'tail') AND NOT EXISTS ("
            "SELECT 1 FROM part AS below WHERE below.namespace = part.namespace "
            "AND below.key = part.parent AND below.kind = 'full')"
        )
        return {PartId(BlockKey(key.hex()), _KINDS[kind]): name for name, key, kind in found}

    def outlines(self, namespace: Namespace) -> Iterator[PartOutline]:
        """All parts of a namespace, blocks before what comes after them."""
        found = self._rows(
            "SELECT key, kind, parent, start, num_tokens, tenant FROM part WHERE namespace = "
            "(SELECT id FROM namespace WHERE name = ?) ORDER BY start",
            namespace,
        )
        tenants = self._tenants()
        for key, kind, parent, start, length, tenant in found:
            parent_key = BlockKey(parent.hex())
            yield PartOutline(
                BlockKey(key.hex()), _KINDS[kind], parent_key, start, length, tenants[tenant]
            )

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> dict[BlockKey, bytes]:
        """The tokens of blocks; unknown ones are left out, and what cannot be tokens."""
        found: dict[BlockKey, bytes] = {}
        with self._reading, translated():
            number = number_of(self._reader.cursor(), namespace)
            for key in keys:
                row = self._reader.execute(
                    "SELECT tokens FROM tokens WHERE namespace = ? AND key = ?",
                    (number, bytes.fromhex(key)),
                ).fetchone()
                if row is not None and isinstance(row[0], bytes) and not len(row[0]) % 4:
                    (found[key],) = row
        return found

    def written(self, now: float) -> int:
        """Bytes written to the store on the day of `now`."""
        found = self._rows("SELECT nbytes FROM written WHERE day = ?", day_of(now))
        return sum(nbytes for (nbytes,) in found)

    def allocated(self) -> int:
        """Bytes that all files with a row take."""
        return int(self._rows("SELECT coalesce(sum(allocated), 0) FROM part")[0][0])

    def kept(self) -> Iterator[KeptPart]:
        """All parts of all namespaces, with what they take and when they were used."""
        found = self._rows(
            "SELECT name, key, kind, parent, start, num_tokens, allocated, used "
            "FROM part JOIN namespace ON namespace.id = part.namespace"
        )
        names: dict[str, Namespace] = {}
        for name, key, kind, parent, start, length, nbytes, used in found:
            yield KeptPart(
                names.setdefault(name, Namespace(name)),
                PartId(BlockKey(key.hex()), _KINDS[kind]),
                *(BlockKey(parent.hex()), start, length, nbytes, used),
            )

    def namespaces(self) -> tuple[Namespace, ...]:
        """All of which there is, or was, something."""
        return tuple(Namespace(name) for (name,) in self._rows("SELECT name FROM namespace"))

    def by_tenant(self) -> dict[TenantId, tuple[int, int]]:
        """How many parts each tenant has, and the bytes that they take."""
        tenants = self._tenants()
        found = self._rows("SELECT tenant, count(*), sum(allocated) FROM part GROUP BY tenant")
        return {tenants[tenant]: (count, nbytes) for tenant, count, nbytes in found}

    def _tenants(self) -> dict[int, TenantId]:
        """Tenants by the numbers that rows name them by, each the same object wherever it stands.

        Raises CachePersistenceError if one cannot be any.
        """
        try:
            rows = self._rows("SELECT id, name FROM tenant")
            return {number: tenant_id(name) for number, name in rows}
        except ValueError as error:
            raise CachePersistenceError(f"the store's index is damaged: {error}") from error

    def _rows(self, sql: str, *values: str | bytes | float) -> list[Any]:
        with self._reading, translated():
            return self._reader.execute(sql, values).fetchall()


def number_of(cursor: sqlite3.Cursor, namespace: Namespace) -> int | None:
    """By what number the rows name a namespace; None if they do not."""
    found = cursor.execute("SELECT id FROM namespace WHERE name = ?", (namespace,)).fetchone()
    return int(found[0]) if found else None


def day_of(seconds: float) -> str:
    """The day of a moment, UTC."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


@contextmanager
def translated() -> Iterator[None]:
    """Raise what SQLite says as an error of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise CachePersistenceError(f"the store's index failed: {error}") from error
