"""What lies in a store, known without opening a file: a row for every part of a block.

Invariant: a row is committed after its file is durable, and goes before the file does where its
going can be committed, so that a row leads to a whole file, or to none. Safe to call from several
threads: those that read do not wait for one that commits. SQLite is known here and in
`index_schema` alone.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from semantic.adapters.outbound.storage import index_schema
from semantic.adapters.outbound.storage.index_rows import (
    IndexRows,
    day_of,
    number_of,
    translated,
)
from semantic.domain.block import BlockHeader, PartId
from semantic.domain.block_hash import token_bytes
from semantic.domain.errors import CacheCorruptionError
from semantic.domain.ids import BlockKey, Namespace


@dataclass(frozen=True, slots=True)
class IndexedPart:
    """A part, the bytes that its file takes on the disk, and when it was written."""

    header: BlockHeader
    allocated: int
    created: float


class BlockIndex(IndexRows):
    """The index in `path`, which must be there.

    Raises:
        CacheCorruptionError: if it is not, cannot be opened, is damaged or of another version.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._writer = index_schema.connect(path)
            super().__init__(index_schema.connect_beside(path, checked=True))
        except sqlite3.Error as error:
            raise CacheCorruptionError(f"{path.name} cannot be used: {error}") from error
        self._writing = threading.Lock()

    def close(self) -> None:
        """Give the files back."""
        super().close()
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
                (day_of(now), written),
            )

    def carry(self, written: Mapping[str, int]) -> None:
        """Know what was written on days past, and on this one so far. Raises as `add` does."""
        with self._changing() as cursor:
            cursor.executemany("INSERT INTO written VALUES (?, ?)", written.items())

    def remove(self, namespace: Namespace, parts: Iterable[PartId]) -> None:
        """Forget parts, durably; unknown ones are ignored. Raises as `add` does."""
        with self._changing() as cursor:
            number = number_of(cursor, namespace)
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
                    (when, number_of(cursor, namespace), bytes.fromhex(key)),
                )

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Cursor]:
        with self._writing, translated():
            cursor = self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    cursor.execute("ROLLBACK")
                raise


def _add(cursor: sqlite3.Cursor, part: IndexedPart) -> None:
    header = part.header
    key = bytes.fromhex(header.key)
    cursor.execute("INSERT OR IGNORE INTO namespace (name) VALUES (?)", (header.namespace,))
    number = number_of(cursor, header.namespace)
    cursor.execute("INSERT OR IGNORE INTO tenant (name) VALUES (?)", (header.tenant,))
    cursor.execute(
        "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, "
        "(SELECT id FROM tenant WHERE name = ?)) "
        "ON CONFLICT DO UPDATE SET parent = excluded.parent, start = excluded.start, "
        "num_tokens = excluded.num_tokens, allocated = excluded.allocated, "
        "used = excluded.used, tenant = excluded.tenant",
        (
            *(number, key, header.kind.value, bytes.fromhex(header.parent)),
            *(header.start, len(header.tokens), part.allocated, part.created, part.created),
            header.tenant,
        ),
    )
    cursor.execute(
        "INSERT INTO tokens VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tokens = excluded.tokens "
        "WHERE tokens <> excluded.tokens",
        (number, key, token_bytes(header.tokens)),
    )
