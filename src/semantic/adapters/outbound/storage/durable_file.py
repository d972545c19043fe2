"""Writing that survives power loss.

Owns the order of system calls: a file's bytes are synced before its name appears, and its name
is synced before anybody is told. Knows nothing of what is written. Raises plain `OSError`.
"""

import errno
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

Buffer = bytes | memoryview

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""On macOS `fsync` stops at the drive's own cache; this goes through it."""

_NO_FULL_SYNC = frozenset({errno.ENOTSUP, errno.EINVAL, errno.ENOTTY})
"""What file systems answer that know no full sync (SMB, some FUSE)."""


def sync(descriptor: int) -> None:
    """Return once the bytes of an open file, or the names in a folder, are on the medium."""
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(descriptor, _FULL_SYNC)
        except OSError as error:
            if error.errno not in _NO_FULL_SYNC:
                raise
        else:
            return
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, chunks: Iterable[Buffer]) -> None:
    """Create `path`, which must not exist, for the owner alone, and sync its bytes.

    Its name is not durable yet. After an error the file may be there in part.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        sync(descriptor)
    finally:
        os.close(descriptor)


def move_into_place(source: Path, target: Path) -> None:
    """Give a whole file, whoever wrote it, the name of another that may exist, in its folder."""
    descriptor = os.open(source, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
    source.rename(target)
    sync_directory(target.parent)
