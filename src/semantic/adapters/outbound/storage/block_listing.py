"""Which parts of blocks lie in a store's folder, and where: each is a file.

    <root>/blk/<namespace, 12 digits>/<block's key, 2 digits>/<block's key>.<kind of part>.st

A namespace is named by a hash that only who has the store's secret can compute, as blocks are.
Reads and changes nothing, so that it may be used beside the process that owns the store.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from semantic.adapters.outbound.storage import secret_file
from semantic.adapters.outbound.storage.block_format import (
    PREFIX_BYTES,
    PartLayout,
    decode_head,
    header_length,
)
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.block import BlockHeader, PartId, PartKind, PartOutline
from semantic.domain.block_hash import token_bytes
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.telemetry import Telemetry

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(rf"([0-9a-f]{{64}})\.({'|'.join(kind.value for kind in PartKind)})\.st")
_NAMESPACE_DIGITS = 12


class BlockListing:
    """The port `BlockCatalogue` over a folder, which need not exist.

    Raises:
        CachePersistenceError: if the store's secret cannot be had.
    """

    def __init__(self, root: Path, telemetry: Telemetry) -> None:
        self.folder = root / "blk"
        self._secret = secret_file.seen(root)
        self._telemetry = telemetry

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        """What the store holds of a namespace, a header a part, in no useful order.

        Children may precede parents, and what adds to a block the part that it exists by. Only
        headers are read and verified, so a damaged payload is found by `get`. What cannot be
        read or is not of this namespace is left out, left in place and reported.
        """
        for path in self._files(namespace):
            if header := self._header(path, namespace):
                yield header

    def outlines(self, namespace: Namespace) -> Iterator[PartOutline]:
        """The same without the tokens."""
        return (header.outline for header in self.headers(namespace))

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        """The tokens of blocks, from a part of theirs that can be read."""
        parts = (PartId(key, kind) for key in keys for kind in PartKind)
        found = (self.header(namespace, part) for part in parts)
        return {header.key: token_bytes(header.tokens) for header in found if header}

    def header(self, namespace: Namespace, part: PartId) -> BlockHeader | None:
        """What the file of a part says it is; None if there is none that can be trusted."""
        return self._header(self.path(namespace, part), namespace)

    def everything(self) -> Iterator[tuple[BlockHeader, Path]]:
        """The headers of all parts of all namespaces, and where each is; see `headers`."""
        for path in (path for folder in self.places() for path in self.listed(folder)):
            if path.suffix == ".st" and (header := self._header(path, None)):
                yield header, path

    def refuse_foreign(self) -> None:
        """Make sure that the secret is that of the blocks that lie there: others are swept.

        Raises:
            CachePersistenceError: if there are any, and none is in the folder of its namespace.
        """
        foreign = False
        for path in (path for folder in self.places() for path in self.listed(folder)):
            with suppress(OSError, ValueError, CacheCorruptionError, IncompatibleCacheError):
                with RegularFile(path) as file:
                    namespace = read_layout(file).header.namespace
                if path.parent.parent == self.place(namespace):
                    return
                foreign = True
        if foreign:
            raise secret_file.foreign(self.folder.parent)

    def is_empty(self) -> bool:
        """Whether no file lies where parts do."""
        return not any(self.listed(folder) for folder in self.places())

    def places(self) -> Iterator[Path]:
        """The folders that hold parts, those of one namespace together."""
        for namespace in self.listed(self.folder):
            yield from self.listed(namespace)

    def listed(self, folder: Path) -> list[Path]:
        """What lies in a folder; nothing if it is none. One that cannot be read is reported."""
        try:
            return sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._telemetry.warning("block_folder_skipped", file=folder.name, reason=str(error))
            return []

    def nbytes(self, namespace: Namespace, part: PartId) -> int:
        """Bytes that a part takes; 0 if it is not there any more."""
        with suppress(OSError):
            return self.path(namespace, part).stat().st_size
        return 0

    def path(self, namespace: Namespace, part: PartId) -> Path:
        """Where a part is, or would be.

        Raises:
            ValueError: if key or namespace is no SHA-256 in hex.
        """
        if not _SHA256.fullmatch(part.key):
            raise ValueError(f"{part.key!r} is no block key")
        return self.place(namespace) / part.key[:2] / _file_name(part)

    def place(self, namespace: Namespace) -> Path:
        """Where the parts of a namespace are, or would be. Raises ValueError as `path` does."""
        if not _SHA256.fullmatch(namespace):
            raise ValueError(f"{namespace!r} is no namespace")
        return self.folder / self._secret.folder_name(namespace)[:_NAMESPACE_DIGITS]

    def _header(self, path: Path, namespace: Namespace | None) -> BlockHeader | None:
        """What a file says it is; None, and it is reported, if that cannot be trusted."""
        try:
            with RegularFile(path) as file:
                header = read_layout(file).header
            refuse_stranger(header, path, namespace or header.namespace)
        except FileNotFoundError:
            return None
        except (OSError, CacheCorruptionError, IncompatibleCacheError) as error:
            self._telemetry.warning("block_skipped", file=path.name, reason=str(error))
            return None
        if path != self.path(header.namespace, header.id):
            self._telemetry.warning("block_skipped", file=path.name, reason="it lies elsewhere")
            return None
        return header

    def _files(self, namespace: Namespace) -> Iterator[Path]:
        for place in self.listed(self.place(namespace)):
            yield from (path for path in self.listed(place) if path.suffix == ".st")


def read_layout(file: RegularFile) -> PartLayout:
    """What a part's open file says of itself.

    Raises:
        CacheCorruptionError: if it is no part of a block, or has another length than was written.
        IncompatibleCacheError: if it is of another format.
    """
    length = header_length(file.read(PREFIX_BYTES, 0))
    layout = decode_head(file.read(PREFIX_BYTES + length, 0))
    if layout.size != file.size:
        raise CacheCorruptionError(f"the file has {file.size} bytes, {layout.size} were written")
    return layout


def refuse_stranger(header: BlockHeader, path: Path, namespace: Namespace) -> None:
    """Raise IncompatibleCacheError unless `header` is what `path` says."""
    if header.namespace != namespace:
        raise IncompatibleCacheError(f"it belongs to namespace {header.namespace}")
    if path.name != _file_name(header.id):
        raise IncompatibleCacheError(f"it is the {header.kind.value} part of block {header.key}")


def part_of(name: str) -> PartId | None:
    """The part that a file of this name holds; None if that is no part's name."""
    found = _NAME.fullmatch(name)
    return PartId(BlockKey(found[1]), PartKind(found[2])) if found else None


def _file_name(part: PartId) -> str:
    return f"{part.key}.{part.kind.value}.st"
