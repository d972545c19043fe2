"""The disk store: files that hold the truth, and an index that knows them without opening any.

A part is durable once its row is committed, which comes after its file; it is deleted row first,
unless the index cannot commit: on a full disk only files that go make room for that.
So whatever a crash leaves is a file without a row, which `sweep` removes. A row whose file is
gone is a miss. Opening reads no file, unless the index has to be made anew (ADR-005).
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from semantic.adapters.outbound.storage import index_rebuild, secret_file
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_index import IndexedPart
from semantic.adapters.outbound.storage.block_listing import BlockListing, part_of
from semantic.domain.block import BlockHeader, PartId, PartOutline, StoredPart
from semantic.domain.block_hash import token_bytes, tokens_from_bytes
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.ids import BlockKey, Namespace, TenantId
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry

_BESIDE = 1 << 20
"""Bytes of records that may wait to be counted with the next blocks: a kill forgets them."""

_PLACES = tuple(f"{number:02x}" for number in range(256))
"""The folders of a namespace."""


class IndexedBlocks:
    """The port `BlockStore` over a folder, which `StoreLock` must hold.

    Raises:
        CachePersistenceError: if the folder cannot be made or written, or its secret is not the
            one that its blocks were kept under.
    """

    def __init__(self, root: Path, telemetry: Telemetry, clock: Clock) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._files = BlockFiles(root, telemetry)
        self._listing = BlockListing(root, telemetry)
        # A row and its file change together: whoever lists both must not come in between.
        self._changing = threading.RLock()
        self._bare: set[tuple[Namespace, PartId]] = set()
        """Parts that have rows still, and no files: misses."""
        self.written_beside = 0
        """Bytes of records that are not among those that the index counts for today yet."""
        self.index, reason = index_rebuild.opened(root, self._listing)
        self._refuse_foreign(root)
        if reason is not None:
            telemetry.info("index_made", folder=str(root), reason=reason)

    def close(self) -> None:
        """Give the index back. Nothing else may be called afterwards."""
        with self._changing, suppress(CachePersistenceError):
            if self.written_beside:
                self._count((), 0)
        self.index.close()

    def wrote(self, nbytes: int) -> None:
        """Count records of so many bytes, with the next blocks if they come soon.

        Raises:
            CachePersistenceError: if that cannot be written down; it will be tried again.
        """
        with self._changing:
            self.written_beside += nbytes
            if self.written_beside >= _BESIDE:
                self._count((), 0)

    def put(self, *parts: StoredPart) -> None:
        """Keep parts; see the port. Files first, all of them, then one commit of the index."""
        with self._changing:
            self._settle()
            new = [part.header for part in parts if not self._is_known(part.header)]
            self._files.put(*parts)
            try:
                self._know([part.header for part in parts], new)
            except BaseException:
                for header in new:
                    self._files.delete(header.namespace, header.id)
                raise

    def get(self, namespace: Namespace, part: PartId) -> StoredPart | None:
        """The part, every byte verified; see the port. What cannot be used is known no more.

        File and row were written by different hands: where they say different things of a part,
        neither is believed.
        """
        known = self.index.known_as(namespace, part)
        if known is None:
            return None
        try:
            found = self._files.get(namespace, part)
        except (CacheCorruptionError, IncompatibleCacheError):
            self._lose(namespace, part)
            raise
        if found is None:
            self._lose(namespace, part)
            return None
        header = found.header
        if known != (header.parent, header.start, header.tenant, token_bytes(header.tokens)):
            self._refuse(header)
        return found

    def exists(self, namespace: Namespace, part: PartId) -> bool:
        """Whether there is such a part. Says nothing about its health."""
        return self._files.exists(namespace, part)

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        """Forget parts; see the port."""
        with self._changing:
            try:
                self._settle()
                self.index.remove(namespace, parts)
            except CachePersistenceError:
                failed = self._unlink(namespace, parts)
                self._bare.update((namespace, part) for part in parts if part not in failed)
                self._settle()
            else:
                failed = self._unlink(namespace, parts)
                if failed:
                    self._keep(namespace, failed)
        for failure in failed.values():
            raise failure

    def _unlink(
        self, namespace: Namespace, parts: Iterable[PartId]
    ) -> dict[PartId, CachePersistenceError]:
        """Remove files; those that could not be, and why."""
        failed: dict[PartId, CachePersistenceError] = {}
        for part in parts:
            try:
                self._files.delete(namespace, part)
            except CachePersistenceError as error:
                failed[part] = error
        return failed

    def _settle(self) -> None:
        """Forget parts whose files went before their rows could. Raises as `delete` does."""
        for namespace, gone in self._forget_rows(self._bare.copy()):
            self._bare.difference_update((namespace, part) for part in gone)

    def _forget_rows(
        self, rows: Iterable[tuple[Namespace, PartId]]
    ) -> Iterator[tuple[Namespace, list[PartId]]]:
        """Forget parts, with one commit for each namespace; tell which after each."""
        by_namespace: dict[Namespace, list[PartId]] = {}
        for namespace, part in rows:
            by_namespace.setdefault(namespace, []).append(part)
        for namespace, parts in by_namespace.items():
            self.index.remove(namespace, parts)
            yield namespace, parts

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        """What the index knows of a namespace, blocks before those that follow them."""
        for outline in self.index.outlines(namespace):
            tokens = self.index.tokens(namespace, (outline.key,)).get(outline.key)
            if tokens is not None:
                yield outline.header(namespace, tokens_from_bytes(tokens))

    def outlines(self, namespace: Namespace) -> Iterator[PartOutline]:
        """The same without the tokens."""
        return self.index.outlines(namespace)

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        """The tokens of blocks; see the port."""
        return self.index.tokens(namespace, keys)

    def committed(self, namespace: Namespace, keys: Sequence[BlockKey]) -> frozenset[BlockKey]:
        """Those of these blocks whose rows are durable; see the port `DurableBlocks`."""
        return self.index.committed(namespace, keys)

    def following(
        self, namespace: Namespace, parent: BlockKey, tenant: TenantId
    ) -> Sequence[bytes]:
        """The tokens of such blocks after another; see the port `DurableBlocks`."""
        return self.index.following(namespace, parent, tenant)

    def nbytes(self, namespace: Namespace, part: PartId) -> int:
        """Bytes that a part's file holds; 0 if it is not there any more."""
        return self._files.nbytes(namespace, part)

    def used(self, namespace: Namespace, keys: Sequence[BlockKey]) -> None:
        """Blocks have been used now."""
        now = self._clock.time()
        self.index.use({(namespace, key): now for key in keys})

    def set_aside(self, damaged: Mapping[Path, str]) -> None:
        """Move files that were found damaged to the quarantine; they are known no more."""
        for path, reason in damaged.items():
            self._files.set_aside(path, reason)
        for _ in self.sweep():
            pass

    def sweep(self) -> Iterator[tuple[PartId, ...]]:
        """Bring index and files together, a folder a step: by names, nothing is opened.

        Files without a row go: what was being written, or deleted, when a process ended. So do
        rows without a file, and rows that follow nothing, as no crash leaves any; each step tells
        which.
        """
        yield from self._all_cut_off()
        known = [self._listing.place(one).name for one in self.index.namespaces()]
        there = [folder.name for folder in self._listing.listed(self._listing.folder)]
        removed = 0
        for folder in dict.fromkeys((*known, *there)):
            for place in _PLACES:
                with self._changing:
                    orphans, gone = self._sweep(self._listing.folder / folder / place)
                removed += orphans
                yield gone
        yield from self._all_cut_off()  # what followed files that were gone
        if removed:
            self._telemetry.info("orphans_swept", files=removed)

    def _refuse_foreign(self, root: Path) -> None:
        """Under another store's secret all files would seem to be orphans: nothing is touched."""
        known = {self._listing.place(one).name for one in self.index.namespaces()}
        there = {folder.name for folder in self._listing.listed(self._listing.folder)}
        if known and there and not known & there:
            self.index.close()
            raise secret_file.foreign(root)

    def _all_cut_off(self) -> Iterator[tuple[PartId, ...]]:
        while cut_off := self._cut_off():
            yield cut_off

    def _cut_off(self) -> tuple[PartId, ...]:
        """Forget the blocks whose parents are gone; tell which. What followed them is next."""
        with self._changing:
            cut_off = ((namespace, part) for part, namespace in self.index.unfounded().items())
            return tuple(part for _, parts in self._forget_rows(cut_off) for part in parts)

    def _sweep(self, folder: Path) -> tuple[int, tuple[PartId, ...]]:
        try:
            names = [path.name for path in folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            names = []
        except OSError as error:
            self._telemetry.warning("block_folder_skipped", file=folder.name, reason=str(error))
            return 0, ()
        there = {part: name for name in names if (part := part_of(name))}
        # Asked now, not when the sweep began: a model may have begun to write since.
        owners = [
            one for one in self.index.namespaces() if self._listing.place(one) == folder.parent
        ]
        known = self.index.within(owners, folder.name)
        orphans = [name for part, name in there.items() if part not in known]
        for name in orphans:
            with suppress(OSError):
                (folder / name).unlink()
        gone = ((known[part], part) for part in known if part not in there)
        forgotten = tuple(part for _, parts in self._forget_rows(gone) for part in parts)
        return len(orphans), forgotten

    def _keep(self, namespace: Namespace, parts: Iterable[PartId]) -> None:
        """Know parts again whose files could not be removed: who deletes them will try again."""
        found = (self._listing.header(namespace, part) for part in parts)
        self._know([header for header in found if header is not None], ())

    def _is_known(self, header: BlockHeader) -> bool:
        return self.index.contains(header.namespace, header.id)

    def _know(self, headers: Sequence[BlockHeader], new: Sequence[BlockHeader]) -> None:
        now = self._clock.time()
        rows = [
            IndexedPart(header, index_rebuild.allocated(self._path(header)), now)
            for header in headers
        ]
        written = sum(self._files.nbytes(header.namespace, header.id) for header in new)
        self._count(rows, written)

    def _count(self, rows: Sequence[IndexedPart], written: int) -> None:
        self.index.add(rows, self._clock.time(), written + self.written_beside)
        self.written_beside = 0

    def _path(self, header: BlockHeader) -> Path:
        return self._listing.path(header.namespace, header.id)

    def _refuse(self, header: BlockHeader) -> None:
        """Set a part aside that the index knows as another; raise IncompatibleCacheError."""
        problem = "the index knows it as another part"
        with self._changing:
            self._files.set_aside(self._path(header), problem)
            self.index.remove(header.namespace, (header.id,))
        raise IncompatibleCacheError(problem)

    def _lose(self, namespace: Namespace, part: PartId) -> None:
        """Know a part no more whose file is gone."""
        with self._changing:
            if self.index.contains(namespace, part) and not self._files.exists(namespace, part):
                self._bare.add((namespace, part))
                with suppress(CachePersistenceError):  # it is a miss, and no less so later
                    self._settle()
