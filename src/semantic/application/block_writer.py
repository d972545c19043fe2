"""What the writing thread does with blocks: puts them, replaces them, makes room for them.

Parts that come together are put together; where that fails each is tried by itself. Invariant: a
part is on disk only if what it builds on is. What became of every part is told in `Fate`s, so that
who still knows it in memory knows no more than there is. Owned by the writing thread.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from semantic.application.space_keeper import Demand, Served, SpaceKeeper
from semantic.domain.block import BlockHeader, PartId, PartKind, StoredPart
from semantic.domain.errors import CachePersistenceError, SemanticError
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.block_store import BlockStore
from semantic.ports.telemetry import Telemetry

_ABSENT = 1 << 14
"""Blocks of which it is remembered that they are not in the store; for others it is asked."""
_AT_ONCE = 256
"""Parts deleted with one commit of the index."""


@dataclass(frozen=True, slots=True)
class Write:
    """A part to be written, and those that it replaces."""

    part: StoredPart
    replaces: tuple[PartId, ...]
    context: Context = field(default_factory=copy_context)
    """In which it is written, so that log lines name the request it comes from."""

    @property
    def builds_on(self) -> BlockKey:
        """The block that must be on disk first."""
        return below(self.part.header)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a part: it is on disk now, or will not be there any more."""

    part: PartId
    kept: bool


class BlockWriter:
    """`tell` hears of every fate; without a `keeper` the store has no limits."""

    def __init__(
        self,
        blocks: BlockStore,
        keeper: SpaceKeeper | None,
        telemetry: Telemetry,
        tell: Callable[[Fate], None],
    ) -> None:
        self._blocks = blocks
        self._keeper = keeper
        self._telemetry = telemetry
        self._tell = tell
        self._absent: dict[BlockKey, None] = {}
        self._forgotten = False
        """Whether more blocks may be absent than are remembered as such."""

    def write(self, writes: Sequence[Write], awaited: frozenset[BlockKey]) -> None:
        """Put parts, then delete what they replace.

        On `awaited` blocks build parts that are still to come: they are given up last.
        """
        writes = list(self._founded(writes))
        if not writes:
            return
        try:
            admitted = self._admits(writes, awaited)
            if admitted:
                self._blocks.put(*(write.part for write in writes))
        except Exception as error:  # noqa: BLE001 - the writer must outlive any one part
            if len(writes) == 1:
                self._not_written(writes[0], error)
                return
            admitted = False
        if admitted:
            for write in writes:
                self._written(write.part.header)
            self._delete_replaced(writes)
        elif len(writes) > 1:
            for write in writes:
                self.write((write,), awaited)
        else:
            self._lost(writes[0].part.header.id)  # the keeper has told why

    def room_for_records(self, nbytes: int, count: int, awaited: frozenset[BlockKey]) -> bool:
        """Make room for so many records; whether they may be written. `awaited` as in `write`.

        Raises:
            CachePersistenceError: if the store cannot be asked.
        """
        if self._keeper is None:
            return True
        return self._keeper.admit(Demand(nbytes, count, awaited=awaited), self._lost)

    def wrote_records(self, nbytes: int) -> None:
        """Records of so many bytes were written."""
        if self._keeper is not None:
            self._keeper.wrote(nbytes)

    def delete(self, namespace: Namespace, parts: tuple[PartId, ...]) -> bool:
        """Whether all of them went.

        `parts` come as the index has them, what a block exists by first, and go the other way
        round: what is left after half of it, or if one cannot go, is still found as a block.
        """
        with suppress(Exception):  # one by one it turns out which, and why
            for last in range(len(parts), 0, -_AT_ONCE):
                self._blocks.delete(namespace, *reversed(parts[max(0, last - _AT_ONCE) : last]))
            return True
        stuck: set[BlockKey] = set()
        for part in reversed(parts):
            if part.key in stuck:
                continue
            try:
                self._blocks.delete(namespace, part)
            except Exception as error:  # noqa: BLE001 - it only takes space
                self._telemetry.warning("block_not_deleted", key=part.key, error=repr(error))
                stuck.add(part.key)
        return not stuck

    def tend(self, served: Served) -> Iterator[None]:
        """Bring the store below its cap, and then into order; does a little of it each step."""
        if self._keeper is None:
            return
        self._keeper.serve(served)
        self._keeper.shrink(self._lost)
        yield
        for gone in self._keeper.sweep():
            for part in gone:
                self._lost(part)
            yield

    def used(self, namespace: Namespace, keys: tuple[BlockKey, ...]) -> None:
        """Remember that blocks have been used now."""
        if self._keeper is not None:
            self._keeper.used(namespace, keys)

    def _founded(self, writes: Sequence[Write]) -> Iterator[Write]:
        """Those whose blocks are on disk, or come before them: a chain there has no hole."""
        absent = set(self._absent)
        coming: set[BlockKey] = set()
        for write in writes:
            header = write.part.header
            known = write.builds_on in coming or not self._forgotten
            if write.builds_on in absent or not (known or self._is_founded(header)):
                absent.add(header.key) if header.kind.begins else None
                reason = CachePersistenceError("the block before it is not in the store")
                self._not_written(write, reason)
                continue
            if header.kind.begins:
                absent.discard(header.key)
                coming.add(header.key)
            yield write

    def _is_founded(self, header: BlockHeader) -> bool:
        """Whether the store has what a part builds on."""
        if header.kind.begins and header.start == 0:
            return True
        parts = (PartId(below(header), kind) for kind in PartKind if kind.begins)
        return any(self._blocks.exists(header.namespace, part) for part in parts)

    def _admits(self, writes: Sequence[Write], awaited: frozenset[BlockKey]) -> bool:
        if self._keeper is None:
            return True
        nbytes = sum(write.part.nbytes for write in writes)
        builds_on = frozenset(write.builds_on for write in writes)
        return self._keeper.admit(Demand(nbytes, len(writes), builds_on, awaited), self._lost)

    def _written(self, header: BlockHeader) -> None:
        if header.kind.begins:
            self._absent.pop(header.key, None)
        self._tell(Fate(header.id, kept=True))

    def _delete_replaced(self, writes: Sequence[Write]) -> None:
        """Delete what parts replace, unless it was written anew after them."""
        replaced: dict[PartId, Write] = {}
        for write in writes:
            replaced.pop(write.part.header.id, None)
            replaced.update(dict.fromkeys(write.replaces, write))
        by_namespace: dict[Namespace, list[PartId]] = {}
        for part, write in replaced.items():
            by_namespace.setdefault(write.part.header.namespace, []).append(part)
        for namespace, parts in by_namespace.items():
            self.delete(namespace, tuple(parts))

    def _not_written(self, write: Write, error: Exception) -> None:
        """The part stays usable in memory; after a restart it is recomputed."""
        self._lost(write.part.header.id)
        report, said = self._telemetry.error, repr(error)
        if isinstance(error, SemanticError):
            report, said = self._telemetry.warning, str(error)
        header = write.part.header
        write.context.run(
            report, "block_not_written", key=header.key, part=header.kind.value, error=said
        )

    def _lost(self, part: PartId) -> None:
        if part.kind.begins:
            self._absent.pop(part.key, None)
            self._absent[part.key] = None
            if len(self._absent) > _ABSENT:
                del self._absent[next(iter(self._absent))]
                self._forgotten = True
        self._tell(Fate(part, kept=False))


def below(header: BlockHeader) -> BlockKey:
    """The block that a part builds on: its parent, or what it adds to."""
    return header.parent if header.kind.begins else header.key
