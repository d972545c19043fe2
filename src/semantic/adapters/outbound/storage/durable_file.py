"""Writing that survives power loss.

Owns the order of system calls: a file's bytes are synced before its name appears, and its name
is synced before anybody is told. Knows nothing of what is written. Raises plain `OSError`.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

Buffer = bytes | memoryview

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""On macOS `fsync` stops at the drive's own cache; this goes through it."""

_BARRIER: int | None = getattr(fcntl, "F_BARRIERFSYNC", 85) if sys.platform == "darwin" else None
"""On macOS: what was written before reaches the medium before what is written after. Much cheaper
than a full sync. Python names it from 3.12 on; 85 is its number in Apple's <sys/fcntl.h>."""

_NOT_KNOWN = frozenset({errno.ENOTSUP, errno.EINVAL, errno.ENOTTY})
"""What file systems answer that know no such command (SMB, some FUSE)."""

_EARLY_BYTES = 1 << 20
"""From this size on a file's way to the disk begins before the next one is written."""


def sync(descriptor: int) -> None:
    """Return once the bytes of an open file, or the names in a folder, are on the medium.

    So is then all that went before through `order`.
    """
    if not _commanded(descriptor, _FULL_SYNC):
        os.fsync(descriptor)


def order(descriptor: int) -> None:
    """Have an open file's bytes, or a folder's names, on the medium before whatever comes later.

    Where there is no such command, they are there on return.
    """
    if not _commanded(descriptor, _BARRIER):
        sync(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    sync_directories((path,))


def sync_directories(paths: Sequence[Path]) -> None:
    """Make the names in folders durable, all of them on return."""
    for position, path in enumerate(paths, 1):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            (sync if position == len(paths) else order)(descriptor)
        finally:
            os.close(descriptor)


def make_root(path: Path) -> None:
    """Make a folder, and those above it, for the owner alone and durably, as far as a mount goes.

    Those that are there already are made durable, too: who made them may have been killed before.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    above: list[Path] = []
    for folder in (path, *path.parents):
        if folder.is_mount():
            break
        above.append(folder.parent)
    # Where we may not even look, somebody else made it.
    sync_directories([folder for folder in reversed(above) if os.access(folder, os.R_OK)])


def write_file(path: Path, chunks: Iterable[Buffer]) -> None:
    """Create `path`, which must not exist, for the owner alone, and sync its bytes.

    Its name is not durable yet. After an error the file may be there in part.
    """
    with ExitStack() as stack:
        sync(_written(path, chunks, stack))


def write_files(files: Sequence[tuple[Path, Iterable[Buffer]]]) -> None:
    """Create files, none of which may exist, for the owner alone, and have their bytes go first.

    First all are written and then all synced: several at once take a fraction of the time. Their
    names are not durable yet, and their bytes are by the next `sync`, of whatever. After an error
    files may be there in part.
    """
    with ExitStack() as stack:
        descriptors = [_written(path, chunks, stack) for path, chunks in files]
        for descriptor in descriptors:
            order(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give a file whose bytes are synced, or a folder, another name; it is durable once synced."""
    source.rename(target)


def move_into_place(source: Path, target: Path) -> None:
    """Give a whole file, whoever wrote it, the name of another that may exist, in its folder."""
    descriptor = os.open(source, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
    source.rename(target)
    sync_directory(target.parent)


def _written(path: Path, chunks: Iterable[Buffer], stack: ExitStack) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    stack.callback(os.close, descriptor)
    size = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            count = os.write(descriptor, rest)
            rest = rest[count:]
            size += count
    # Nothing of it may be dropped from memory yet, so all this does is to start writing it.
    if size >= _EARLY_BYTES and sys.platform == "linux":
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor


def _commanded(descriptor: int, command: int | None) -> bool:
    """Whether the platform knows the command, and has done it."""
    if command is None:
        return False
    try:
        fcntl.fcntl(descriptor, command)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
        return False
    return True
