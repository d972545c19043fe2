"""One process a store. The lock is the kernel's: it ends with its owner, even by `kill -9`."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from semantic.adapters.outbound.storage.durable_file import make_root
from semantic.domain.errors import CachePersistenceError, StoreLockedError

_HELD = frozenset({errno.EWOULDBLOCK, errno.EACCES})
"""What locking a locked file answers."""

_LONGEST_PID = 20
"""Digits to read of an owner's process id."""


class StoreLock:
    """Exclusive use of a store's folder, from `acquire` to `release` or the end of the process.

    The file stays when the lock goes: removing it would let two owners hold two files.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; the folder is made, for the owner alone, if it is not there.

        Raises:
            StoreLockedError: naming the folder and its owner, if there is one already.
            CachePersistenceError: if the folder cannot be made, written or locked.
        """
        try:
            make_root(self._root)
            descriptor = os.open(self._root / "store.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CachePersistenceError(f"{self._root} cannot be a store: {error}") from error
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back. Without one, nothing happens."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:
                raise CachePersistenceError(f"{self._root} cannot be locked: {error}") from error
            raise StoreLockedError(
                f"the store {self._root} is in use by {_owner(descriptor)}; "
                "stop it, or choose another folder"
            ) from error
        # Only told to whoever comes second: the lock holds without it, on a full disk too.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _owner(descriptor: int) -> str:
    with suppress(OSError, ValueError):
        return f"process {int(os.pread(descriptor, _LONGEST_PID, 0))}"
    return "another process"
