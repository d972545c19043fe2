"""Questions to the index of a store: what there is, what follows what, what it takes.

Reads only, so that it may be used beside the process that owns the store. Safe to call from
several threads.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from semantic.domain.block import PartId, PartKind, PartOutline
from semantic.domain.errors import CachePersistenceError
from semantic.domain.eviction import KeptPart
from semantic.domain.ids import BlockKey, Namespace

_KEY_BYTES = 32
_KINDS = {kind.value: kind for kind in PartKind}


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
    ) -> tuple[BlockKey, int, bytes | None] | None:
        """A part's parent, its start and its block's tokens; None if there is no row for it."""
        found = self._rows(
            "SELECT parent, start, tokens FROM part "
            "JOIN namespace ON namespace.id = part.namespace "
            "LEFT JOIN tokens ON tokens.namespace = part.namespace AND tokens.key = part.key "
            "WHERE name = ? AND part.key = ? AND kind = ?",
            *(namespace, bytes.fromhex(part.key), part.kind.value),
        )
        for parent, start, tokens in found:
            return BlockKey(parent.hex()), start, tokens
        return None

    def within(self, folder: str, first: str) -> dict[PartId, Namespace]:
        """Parts whose namespace begins with `folder` and whose key begins with `first`."""
        lowest = bytes.fromhex(first)
        found = self._rows(
            "SELECT name, key, kind FROM part JOIN namespace ON namespace.id = part.namespace "
            "WHERE substr(name, 1, ?) = ? AND key >= ? AND key <= ?",
            *(len(folder), folder, lowest, lowest + b"\xff" * (_KEY_BYTES - len(lowest))),
        )
        return {PartId(BlockKey(key.hex()), _KINDS[kind]): name for name, key, kind in found}

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
            "SELECT key, kind, parent, start, num_tokens FROM part WHERE namespace = "
            "(SELECT id FROM namespace WHERE name = ?) ORDER BY start",
            namespace,
        )
        for key, kind, parent, start, length in found:
            yield PartOutline(
                BlockKey(key.hex()), _KINDS[kind], BlockKey(parent.hex()), start, length
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
        """All of which there is something."""
        found = self._rows(
            "SELECT name FROM namespace WHERE id IN (SELECT DISTINCT namespace FROM part)"
        )
        return tuple(Namespace(name) for (name,) in found)

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
