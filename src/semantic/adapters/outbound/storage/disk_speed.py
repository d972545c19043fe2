"""How fast a folder's disk is, for files written as the store writes them."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from semantic.adapters.outbound.storage.durable_file import write_file
from semantic.adapters.outbound.storage.regular_file import RegularFile

_CHUNK = 4 << 20
_CHUNKS = 16


@dataclass(frozen=True, slots=True)
class DiskSpeed:
    """Bytes a second, synced when written. Reading may be helped by the system's cache."""

    written: float
    read: float


def measure(folder: Path) -> DiskSpeed:
    """Write, read and remove one file of 64 MiB in `folder`.

    Raises:
        OSError: if that is not possible.
    """
    path = folder / f".semantic-speed-{os.getpid()}"
    chunks = [os.urandom(_CHUNK) for _ in range(_CHUNKS)]
    try:
        start = time.perf_counter()
        write_file(path, chunks)
        written = time.perf_counter() - start
        _drop_cache(path)
        start = time.perf_counter()
        with RegularFile(path) as file:
            file.read(file.size, 0)
        read = time.perf_counter() - start
    finally:
        path.unlink(missing_ok=True)
    return DiskSpeed(_CHUNK * _CHUNKS / written, _CHUNK * _CHUNKS / read)


def _drop_cache(path: Path) -> None:
    """Ask the system to forget the file's pages, where it can be asked."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
