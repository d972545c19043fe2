"""Blocks on disk: one immutable file for each of their parts.

Where each is, `BlockListing` knows. Invariant: a file under its final name is whole, durable and
never changed. What a reader finds otherwise is damage: it is moved to the quarantine and
reported, never returned.
"""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

from semantic.adapters.outbound.storage import secret_file
from semantic.adapters.outbound.storage.block_format import (
    PartLayout,
    encode,
    payload_digest_of,
)
from semantic.adapters.outbound.storage.block_listing import (
    BlockListing,
    read_layout,
    refuse_stranger,
)
from semantic.adapters.outbound.storage.durable_file import sync_directory
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.adapters.outbound.storage.store_folder import StoreFolder
from semantic.domain.block import BlockHeader, PartId, PartOutline, StoredPart, Tensor
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.telemetry import Telemetry

_UNREADABLE = frozenset({errno.EIO, errno.EACCES})
"""What reading one bad file answers; other failures say nothing about the file."""


class BlockFiles:
    """The port `BlockStore` over a folder, which `StoreLock` must hold.

    Raises:
        CachePersistenceError: if the folder cannot be made or written, or lacks its secret.
    """

    def __init__(self, root: Path, telemetry: Telemetry) -> None:
        secret_file.opened(root)
        self._listing = BlockListing(root, telemetry)
        with _translated(f"the store {root} cannot be opened"):
            self._folder = StoreFolder(root, "block", telemetry)
            self._folder.make_directories(self._listing.folder)

    def put(self, *parts: StoredPart) -> None:
        """Keep parts; first writer wins, unless what it wrote has been damaged since.

        Raises:
            CachePersistenceError: if one could not be written; none is left behind then.
            ValueError: if a key or a namespace is no SHA-256 in hex.
        """
        files: list[tuple[Path, tuple[bytes, ...]]] = []
        with _translated(_named(parts) + " could not be written"):
            paths = [self._listing.path(part.header.namespace, part.header.id) for part in parts]
            self._folder.make_directories(*(path.parent for path in paths))
            for part, path in zip(parts, paths, strict=True):
                if self._is_sound(path, part.header.namespace):
                    sync_directory(path.parent)
                else:
                    files.append((path, encode(part)))
            self._folder.write_new(files)

    def get(self, namespace: Namespace, part: PartId) -> StoredPart | None:
        """The part, every byte verified; None if it is absent.

        Raises:
            CacheCorruptionError: if its bytes are not those that were written.
            IncompatibleCacheError: if it is another part, or of another format. In both cases
                the entry has been set aside, and the next call answers None.
            CachePersistenceError: if it could not be read; it has been left where it is.
        """
        path = self._listing.path(namespace, part)
        with _translated(f"{path.name} could not be read"):
            try:
                return self._read(path, namespace)
            except FileNotFoundError:
                return None

    def exists(self, namespace: Namespace, part: PartId) -> bool:
        """Whether there is such a part. Says nothing about its health."""
        return os.path.lexists(self._listing.path(namespace, part))

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        """Forget parts; absent ones are ignored.

        Not synced: a part that power loss brings back is as good as before.

        Raises:
            CachePersistenceError: if one could not be removed.
        """
        for part in parts:
            path = self._listing.path(namespace, part)
            with _translated(f"{path.name} could not be removed"):
                path.unlink(missing_ok=True)

    def set_aside(self, path: Path, reason: str) -> None:
        """Move a file that cannot be trusted to the quarantine, and report it."""
        self._folder.set_aside(path, None, reason)

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        """What the store holds of a namespace; see `BlockListing.headers`."""
        return self._listing.headers(namespace)

    def outlines(self, namespace: Namespace) -> Iterator[PartOutline]:
        """The same without the tokens."""
        return self._listing.outlines(namespace)

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        """The tokens of blocks, from all headers; see `BlockListing.tokens`."""
        return self._listing.tokens(namespace, keys)

    def nbytes(self, namespace: Namespace, part: PartId) -> int:
        """Bytes that a part takes on disk; 0 if it is not there any more."""
        return self._listing.nbytes(namespace, part)

    def _read(self, path: Path, namespace: Namespace) -> StoredPart:
        """Read and verify a file; set it aside if it is not what its path says."""
        with self._folder.opened(path) as file:
            found = read_part(file)
            refuse_stranger(found.header, path, namespace)
        return found

    def _is_sound(self, path: Path, namespace: Namespace) -> bool:
        """Whether a part can be read at `path`; makes room for a new one if it cannot.

        Raises:
            CachePersistenceError: if it cannot, and cannot be taken away either.
        """
        state = self._state(path, namespace)
        if state is _State.DAMAGED and os.path.lexists(path):
            # Another thread has put a healthy one there, or the disk would not let this one go.
            state = self._state(path, namespace)
            if state is _State.DAMAGED and os.path.lexists(path):
                raise CachePersistenceError(
                    f"{path.name} is damaged, and can neither be set aside nor removed"
                )
        return state is _State.SOUND

    def _state(self, path: Path, namespace: Namespace) -> "_State":
        """What lies at `path`; what is damaged is set aside if possible."""
        try:
            self._read(path, namespace)
        except FileNotFoundError:
            return _State.ABSENT
        except (CacheCorruptionError, IncompatibleCacheError):
            return _State.DAMAGED
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            self._folder.set_aside(path, None, str(error))
            return _State.DAMAGED
        return _State.SOUND


class _State(Enum):
    """What lies where a part belongs."""

    SOUND = auto()
    ABSENT = auto()
    DAMAGED = auto()


def _named(parts: Sequence[StoredPart]) -> str:
    """How a message names what is put at once."""
    rest = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
    return f"{parts[0].header.kind.value} part of block {parts[0].header.key}{rest}"


def read_part(file: RegularFile) -> StoredPart:
    """The part in an open file, every byte verified.

    Raises:
        CacheCorruptionError: if its bytes are not those that were written.
        IncompatibleCacheError: if it is of another format.
    """
    layout = read_layout(file)
    return StoredPart(layout.header, _tensors(file, layout))


def _tensors(file: RegularFile, layout: PartLayout) -> tuple[Tensor, ...]:
    """Read each tensor into its own bytes, which spares a copy, and verify them all."""
    digest = payload_digest_of(layout.tensors)
    found: list[Tensor] = []
    position = layout.payload
    for tensor in layout.tensors:
        data = file.read(tensor.nbytes, position)
        digest.update(data)
        found.append(Tensor(tensor.name, tensor.dtype, tensor.shape, data))
        position += tensor.nbytes
    if digest.hexdigest() != layout.payload_digest:
        raise CacheCorruptionError("the payload differs from what was written")
    return tuple(found)


@contextmanager
def _translated(failure: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CachePersistenceError(f"{failure}: {error}") from error
