"""What lies in a store, known without opening a file: a row for every part of a block.

Invariant: a row is committed after its file is durable, and goes before the file does, so that a
row leads to a whole file, unless somebody removed it. Safe to call from several threads: those
that read do not wait for one that commits. SQLite is known here and in `index_schema` alone.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from semantic.adapters.outbound.storage import index_schema
from semantic.domain.block import BlockHeader, PartId, PartKind, PartOutline
from semantic.domain.block_hash import token_bytes
from semantic.domain.errors import CacheCorruptionError, CachePersistenceError
from semantic.domain.eviction import KeptPart
from semantic.domain.ids import BlockKey, Namespace

_KEY_BYTES = 32
_KINDS = {kind.value: kind for kind in PartKind}


@dataclass(frozen=True, slots=True)
class IndexedPart:
    """A part, the bytes that its file takes on the disk, and when it was written."""

    header: BlockHeader
    allocated: int
    created: float


class BlockIndex:
    """The index in `path`, which must be there.

    Raises:
        CacheCorruptionError: if it is not, cannot be opened, is damaged or of another version.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._writer = index_schema.connect(path)
            self._reader = index_schema.connect_beside(path)
        except sqlite3.Error as error:
            raise CacheCorruptionError(f"{path.name} cannot be used: {error}") from error
        self._writing, self._reading = threading.Lock(), threading.Lock()

    def close(self) -> None:
        """Give the files back."""
        with self._reading:
            self._reader.close()
        with self._writing:
            self._writer.close()

    def add(self, parts: Iterable[IndexedPart], now: float, written: int) -> None:
        """Know parts, and that `written` bytes were written today; durable on return.

        Raises:
            CachePersistenceError: if that cannot be written down; nothing is known then.
        """
        with self._changing() as cursor:
            for part in parts:
                _add(cursor, part)
            cursor.execute(
                "INSERT INTO written VALUES (?, ?) "
                "ON CONFLICT (day) DO UPDATE SET nbytes = nbytes + excluded.nbytes",
                (_day_of(now), written),
            )

    def remove(self, namespace: Namespace, parts: Iterable[PartId]) -> None:
        """Forget parts, durably; unknown ones are ignored. Raises as `add` does."""
        with self._changing() as cursor:
            number = _number(cursor, namespace)
            for key, kind in parts:
                place = (number, bytes.fromhex(key))
                cursor.execute(
                    "DELETE FROM part WHERE namespace = ? AND key = ? AND kind = ?",
                    (*place, kind.value),
                )
                cursor.execute(
                    "DELETE FROM tokens WHERE namespace = ? AND key = ? "
                    "AND NOT EXISTS (SELECT 1 FROM part WHERE namespace = ? AND key = ?)",
                    (*place, *place),
                )

    def use(self, used: Mapping[tuple[Namespace, BlockKey], float]) -> None:
        """Know when blocks were used last. Raises as `add` does."""
        with self._changing() as cursor:
            for (namespace, key), when in used.items():
                cursor.execute(
                    "UPDATE part SET used = max(used, ?) WHERE namespace = ? AND key = ?",
                    (when, _number(cursor, namespace), bytes.fromhex(key)),
                )

    def contains(self, namespace: Namespace, part: PartId) -> bool:
        """Whether there is a row for the part."""
        found = self._rows(
            "SELECT 1 FROM part JOIN namespace ON namespace.id = part.namespace "
            "WHERE name = ? AND key = ? AND kind = ?",
            *(namespace, bytes.fromhex(part.key), part.kind.value),
        )
        return bool(found)

    def within(self, folder: str, first: str) -> dict[PartId, Namespace]:
        """Parts whose namespace begins with `folder` and whose key begins with `first`."""
        lowest = bytes.fromhex(first)
        found = self._rows(
            "SELECT name, key, kind FROM part JOIN namespace ON namespace.id = part.namespace "
            "WHERE substr(name, 1, ?) = ? AND key >= ? AND key <= ?",
            *(len(folder), folder, lowest, lowest + b"\xff" * (_KEY_BYTES - len(lowest))),
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
        """The tokens of blocks; unknown ones are left out."""
        found: dict[BlockKey, bytes] = {}
        with self._reading, _translated():
            number = _number(self._reader.cursor(), namespace)
            for key in keys:
                row = self._reader.execute(
                    "SELECT tokens FROM tokens WHERE namespace = ? AND key = ?",
                    (number, bytes.fromhex(key)),
                ).fetchone()
                if row is not None:
                    (found[key],) = row
        return found

    def written(self, now: float) -> int:
        """Bytes written to the store on the day of `now`."""
        found = self._rows("SELECT nbytes FROM written WHERE day = ?", _day_of(now))
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
        with self._reading, _translated():
            return self._reader.execute(sql, values).fetchall()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Cursor]:
        with self._writing, _translated():
            cursor = self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    cursor.execute("ROLLBACK")
                raise


def _number(cursor: sqlite3.Cursor, namespace: Namespace) -> int | None:
    found = cursor.execute("SELECT id FROM namespace WHERE name = ?", (namespace,)).fetchone()
    return int(found[0]) if found else None


def _add(cursor: sqlite3.Cursor, part: IndexedPart) -> None:
    header = part.header
    key = bytes.fromhex(header.key)
    cursor.execute("INSERT OR IGNORE INTO namespace (name) VALUES (?)", (header.namespace,))
    number = _number(cursor, header.namespace)
    cursor.execute(
        "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET allocated = excluded.allocated, used = excluded.used",
        (
            *(number, key, header.kind.value, bytes.fromhex(header.parent)),
            *(header.start, len(header.tokens), part.allocated, part.created, part.created),
        ),
    )
    cursor.execute(
        "INSERT OR IGNORE INTO tokens VALUES (?, ?, ?)", (number, key, token_bytes(header.tokens))
    )


def _day_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise CachePersistenceError(f"the store's index failed: {error}") from error
