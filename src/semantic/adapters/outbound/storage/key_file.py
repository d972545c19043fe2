"""A store's API keys: `<root>/keys.json`, for the owner alone.

Used beside the server that has the store, so it does not need the store's lock: `keys.lock` keeps
those apart who change it. A file that is damaged, or open to others, is an error and never an
empty list: nobody is let in because a disk has failed.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semantic.adapters.outbound.storage import key_format
from semantic.adapters.outbound.storage.durable_file import (
    make_root,
    rename,
    sync_directory,
    write_file,
)
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.api_key import ApiKey
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
    InvalidRequestError,
    KeyNotFoundError,
)
from semantic.domain.ids import KeyName

FILE = "keys.json"
LOCK = "keys.lock"

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAX_BYTES = 16 << 20
"""Tens of thousands of keys; a longer file is none of ours."""


class KeyFile:
    """Implements the port `ApiKeys` in the store `root`, which need not exist before a key does."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / FILE
        self._seen: tuple[tuple[int, ...], tuple[ApiKey, ...]] | None = None

    def all(self) -> tuple[ApiKey, ...]:
        """All keys; see the port. A file that has not changed is not read again."""
        try:
            before = _version(self._path)
            if before is None:
                return ()
            if self._seen is None or self._seen[0] != before:
                self._seen = (before, self._read())
            return self._seen[1]
        except OSError as error:
            raise CachePersistenceError(f"{self._path} cannot be read: {error}") from error

    def add(self, key: ApiKey) -> None:
        """Keep another key; see the port."""
        with self._changing() as keys:
            if any(other.name == key.name for other in keys):
                raise InvalidRequestError(
                    f"there is a key named {key.name!r}: revoke it, or choose another name",
                    field="name",
                )
            self._write((*keys, key))

    def remove(self, name: KeyName) -> ApiKey:
        """Forget a key; see the port."""
        self._named(name, self.all())  # what is not there must not make a store
        with self._changing() as keys:
            found = self._named(name, keys)
            self._write(tuple(key for key in keys if key is not found))
            return found

    @staticmethod
    def _named(name: KeyName, keys: tuple[ApiKey, ...]) -> ApiKey:
        for key in keys:
            if key.name == name:
                return key
        raise KeyNotFoundError(f"there is no key named {name!r}")

    def _read(self) -> tuple[ApiKey, ...]:
        # Opened under this name: what it is and what it holds is of one file.
        try:
            with RegularFile(self._path) as file:
                # One that is cut off is damaged as well.
                keys = key_format.decode(file.read(min(file.size, _MAX_BYTES), 0))
        except (CacheCorruptionError, IncompatibleCacheError) as error:
            raise CachePersistenceError(
                f"{self._path} cannot be used ({error}), so nobody is let in: put a copy of it in "
                "its place, or remove it and create keys anew"
            ) from error
        if self._path.lstat().st_mode & _OTHERS:
            raise CachePersistenceError(
                f"{self._path} is open to others, who may have put keys there, so nobody is let "
                f"in: 'chmod 600 {self._path}' closes it; then see 'semantic keys list'"
            )
        return keys

    @contextmanager
    def _changing(self) -> Iterator[tuple[ApiKey, ...]]:
        """The keys as they are, while nobody else changes them."""
        try:
            make_root(self._root)
            descriptor = os.open(self._root / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._seen = None
                yield self.all()
            finally:
                os.close(descriptor)
        except OSError as error:
            raise CachePersistenceError(f"{self._path} cannot be changed: {error}") from error

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        fresh = self._path.with_name(f"{FILE}.new")
        fresh.unlink(missing_ok=True)
        write_file(fresh, (key_format.encode(keys),))
        rename(fresh, self._path)
        sync_directory(self._root)


def _version(path: Path) -> tuple[int, ...] | None:
    """What differs whenever the file does; None if there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return (
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )
