"""The index of a store's files as SQLite tables, and how a connection to them is made.

    part     one row a part of a block; narrow, so that all of them are read quickly at start
    tenant   whose they are; few
    tokens   one row a block: its parts share them; unsigned 32-bit little-endian numbers
    written  bytes written to the store on each day (UTC)

Keys are 32 bytes, namespaces and tenants numbers. An index of another version is no index: it is
made anew from the files, which are the truth (ADR-005). Raises plain `sqlite3` errors.
"""

import os
import sqlite3
from pathlib import Path

from semantic.adapters.outbound.storage.durable_file import sync_directory
from semantic.domain.block import PartKind

VERSION = 2
"""Kept as SQLite's `user_version`."""

FILE = "index.db"

COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite adds to a database's name for the files beside it."""

_TABLES = """
BEGIN;
CREATE TABLE namespace (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE tenant (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE part (
    namespace INTEGER NOT NULL, key BLOB NOT NULL, kind TEXT NOT NULL, parent BLOB NOT NULL,
    start INTEGER NOT NULL, num_tokens INTEGER NOT NULL, allocated INTEGER NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL, tenant INTEGER NOT NULL,
    PRIMARY KEY (namespace, key, kind)
) WITHOUT ROWID;
CREATE TABLE tokens (
    namespace INTEGER NOT NULL, key BLOB NOT NULL, tokens BLOB NOT NULL,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX following ON part (namespace, parent);
CREATE TABLE written (day TEXT PRIMARY KEY, nbytes INTEGER NOT NULL) WITHOUT ROWID;
"""

_STRANGE_ROWS = f"""
SELECT count(*) FROM part WHERE
    length(key) <> 32 OR length(parent) <> 32 OR parent = key
    OR typeof(start) <> 'integer' OR start < 0
    OR typeof(num_tokens) <> 'integer' OR num_tokens < 1
    OR typeof(allocated) <> 'integer' OR allocated < 0 OR typeof(used) <> 'real'
    OR typeof(key) <> 'blob' OR typeof(parent) <> 'blob'
    OR kind NOT IN ({", ".join(f"'{kind.value}'" for kind in PartKind)})
    OR namespace NOT IN (SELECT id FROM namespace) OR tenant NOT IN (SELECT id FROM tenant)
"""  # noqa: S608 - kinds of ours
"""SQLite has no digests: a flipped bit in a page is read as it stands there."""

_BROKEN_CHAINS = """
SELECT count(*) FROM part LEFT JOIN part AS below
    ON below.namespace = part.namespace AND below.key = part.parent AND below.kind = 'full'
WHERE CASE WHEN below.key IS NULL
    THEN EXISTS (SELECT 1 FROM part AS tail WHERE tail.namespace = part.namespace
        AND tail.key = part.parent AND tail.kind = 'tail')
    ELSE below.start + below.num_tokens <> part.start END
"""
"""A block follows a whole one that ends where it starts, or a chain could run in a circle."""

_NAMELESS_TAILS = """
SELECT count(*) FROM part LEFT JOIN tokens
    ON tokens.namespace = part.namespace AND tokens.key = part.key
WHERE part.kind = 'tail' AND coalesce(length(tokens), 0) <> 4 * num_tokens
"""
"""Tails are found by their tokens; whole blocks mostly without."""

_STRANGE_NAMES = """
SELECT (SELECT count(*) FROM namespace
        WHERE typeof(name) <> 'text' OR length(name) <> 64 OR name GLOB '*[^0-9a-f]*')
    + (SELECT count(*) FROM tenant
        WHERE typeof(name) <> 'text' OR length(name) NOT BETWEEN 1 AND 64
        OR name GLOB '*[^-a-z0-9_]*')
"""

_LOG_PAGES = 256
"""Pages of 4 KiB after which the write-ahead log is emptied: it counts towards the store's size."""


def create(path: Path) -> None:
    """Make an empty index in `path`, where there is none, for the owner alone.

    Raises:
        sqlite3.Error, OSError: if it cannot be made.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = _connection(path.as_uri())
    try:
        connection.executescript(f"{_TABLES}PRAGMA user_version = {VERSION};COMMIT;")
    finally:
        connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open the index for writing.

    A commit is durable when it returns, also on macOS, whose `fsync` stops at the drive's cache.

    Raises:
        sqlite3.Error: if it is not there, cannot be opened, or is of another version.
    """
    connection = _connection(f"{path.as_uri()}?mode=rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        for setting in ("synchronous = FULL", "fullfsync = ON", "checkpoint_fullfsync = ON"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_PAGES << 12}")
        _check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_beside(
    path: Path, *, at_rest: bool = False, checked: bool = False
) -> sqlite3.Connection:
    """Open the index to look at it. `at_rest`: nobody writes to it, and no log lies beside it.

    One that has been `checked` is not gone through again.

    Raises:
        sqlite3.Error: if it is not there, cannot be opened, or is of another version.
    """
    # Read as it lies there, it gets no files beside it.
    connection = _connection(f"{path.as_uri()}?{'mode=ro&immutable=1' if at_rest else 'mode=ro'}")
    try:
        if not checked:
            _check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def remove(path: Path) -> None:
    """Remove an index, durably before its log: without that it would be one, and lack rows."""
    if os.path.lexists(path):
        path.unlink()
        sync_directory(path.parent)
    for end in COMPANIONS:
        path.with_name(path.name + end).unlink(missing_ok=True)


def _connection(uri: str) -> sqlite3.Connection:
    # Transactions begin and end where the code says so; threads take turns by a lock of ours.
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError unless it is of our version and its rows can be read."""
    if (version := _version(connection)) != VERSION:
        raise sqlite3.DatabaseError(f"the index is of version {version}, not {VERSION}")
    # Reads every page of the table: what is damaged is found now, and not when it is needed.
    for question in (_STRANGE_NAMES, _STRANGE_ROWS, _BROKEN_CHAINS, _NAMELESS_TAILS):
        (strange,) = connection.execute(question).fetchone()
        if strange:
            raise sqlite3.DatabaseError(f"{strange} rows of the index say what no part can be")
    connection.execute("SELECT max(nbytes) FROM written")
    # By what rows are found: for a count SQLite reads an index, and not what it leads to.
    connection.execute("SELECT count(*) FROM namespace JOIN namespace AS same USING (name)")
    connection.execute("SELECT count(*) FROM tokens")
    connection.execute("SELECT namespace, key, tokens FROM tokens LIMIT 1")
