"""Which parts of blocks lie in a store's folder, and where: each is a file.

    <root>/blk/<namespace, 12 digits>/<block's key, 2 digits>/<block's key>.<kind of part>.st

Reads and changes nothing, so that it may be used beside the process that owns the store.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from semantic.adapters.outbound.storage.block_format import (
    PREFIX_BYTES,
    PartLayout,
    decode_head,
    header_length,
)
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.block import BlockHeader, PartId
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.domain.ids import Namespace
from semantic.ports.telemetry import Telemetry

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlockListing:
    """The port `BlockCatalogue` over a folder, which need not exist."""

    def __init__(self, root: Path, telemetry: Telemetry) -> None:
        self.folder = root / "blk"
        self._telemetry = telemetry

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        """What the store holds of a namespace, a header a part, in no useful order.

        Children may precede parents, and what adds to a block the part that it exists by. Only
        headers are read and verified, so a damaged payload is found by `get`. What cannot be
        read or is not of this namespace is left out, left in place and reported.
        """
        for path in self._files(namespace):
            try:
                with RegularFile(path) as file:
                    layout = read_layout(file)
                refuse_stranger(layout.header, path, namespace)
            except FileNotFoundError:
                continue
            except (OSError, CacheCorruptionError, IncompatibleCacheError) as error:
                self._telemetry.warning("block_skipped", file=path.name, reason=str(error))
                continue
            yield layout.header

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
        return self._namespace_folder(namespace) / part.key[:2] / _file_name(part)

    def _namespace_folder(self, namespace: Namespace) -> Path:
        if not _SHA256.fullmatch(namespace):
            raise ValueError(f"{namespace!r} is no namespace")
        return self.folder / namespace[:12]

    def _files(self, namespace: Namespace) -> Iterator[Path]:
        folder = self._namespace_folder(namespace)
        for place in self._listed(folder):
            yield from (path for path in self._listed(place) if path.suffix == ".st")

    def _listed(self, folder: Path) -> list[Path]:
        try:
            return sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._telemetry.warning("block_folder_skipped", file=folder.name, reason=str(error))
            return []


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


def _file_name(part: PartId) -> str:
    return f"{part.key}.{part.kind.value}.st"
