"""Reading files that anything may have happened to.

A path is opened once; what it turned out to be, its size and its bytes all belong to that one
open file, whatever happens to the path meanwhile. Raises plain `OSError` where the system fails.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from semantic.domain.errors import CacheCorruptionError

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""No links are followed, and a pipe in a file's place must not make us wait."""

_NOT_A_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP})
"""What opening a link or a socket answers, on one system or another."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file it is, whatever its name: stays unique while the file is open."""

    device: int
    inode: int


class RegularFile:
    """An open file. To be used in a `with` statement.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        CacheCorruptionError: if it is a folder, a link, a pipe or the like.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, _FLAGS)
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                raise CacheCorruptionError(f"{path.name} is not a file") from error
            raise
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._descriptor)
            raise CacheCorruptionError(f"{path.name} is not a file")
        self.size = found.st_size
        self.identity = FileIdentity(found.st_dev, found.st_ino)

    def read(self, size: int, offset: int) -> bytes:
        """Exactly `size` bytes from `offset`, without a copy where the system gives them at once.

        Raises:
            CacheCorruptionError: if the file ends before.
        """
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                raise CacheCorruptionError(f"the file ends at byte {offset + len(data)}")
            data += more
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)
