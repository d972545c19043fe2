"""Which parts of blocks are known, and where they are: in memory, on their way to disk, on disk.

Invariants: a part is on disk, or on its way, only if what it builds on is, so that a chain there
has no hole; what is in memory only is known only as long as it is in memory. Owned by the engine's
thread.
"""

from collections.abc import Collection, Iterable, Sequence

from semantic.application.hot_parts import HotParts
from semantic.application.stored_tokens import StoredTokens
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import BlockHeader, PartId, StoredPart
from semantic.domain.block_pool import BlockPool, Holder
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import BlockKey
from semantic.domain.prefix_index import PrefixIndex
from semantic.domain.resume import ResumeRule
from semantic.ports.block_store import BlockStore
from semantic.ports.model_executor import ModelExecutor, PartHandle


class KeptParts:
    """The parts of one model's blocks. `root` is the parent of the first ones."""

    def __init__(
        self,
        executor: ModelExecutor,
        writes: WriteBehind,
        pool: BlockPool,
        tokens: StoredTokens,
        root: BlockKey,
    ) -> None:
        capabilities = executor.capabilities
        spec = capabilities.spec
        self._executor = executor
        self._writes = writes
        self._tokens = tokens
        self.namespace = capabilities.namespace
        self._root = root
        self._rule = spec.resume_rule if spec else ResumeRule()
        self._hot = HotParts(pool)
        self._memory_only: set[PartId] = set()
        self.index = PrefixIndex(root, BLOCK_SIZE, self._rule, tokens.fetch)

    def discover(self, store: BlockStore) -> None:
        """Learn what `store` holds."""
        self._tokens.store = store
        self.index.learn(self.namespace, store.outlines(self.namespace))

    def is_hot(self, part: PartId) -> bool:
        """Whether it is in memory."""
        return part in self._hot

    def hot(self, part: PartId) -> PartHandle | None:
        """The part, if it is in memory; it counts as used now."""
        return self._hot.get(part)

    def rests(self, part: PartId) -> bool:
        """Whether it is on disk, or on its way there."""
        return part in self.index and part not in self._memory_only

    @property
    def pool(self) -> BlockPool:
        """The budget of all KV in memory. To be asked, not told: what goes must be forgotten."""
        return self._hot.pool

    def can_claim(self, holder: Holder, nbytes: int) -> bool:
        """Whether a holder could have so much memory in all."""
        return self._hot.pool.can_claim(holder, nbytes)

    def claim(self, holder: Holder, nbytes: int) -> None:
        """Let a holder have so much memory in all.

        Raises:
            PoolExhaustedError: if it does not fit; then nothing has changed.
        """
        self._gone_from_memory(self._hot.claim(holder, nbytes))

    def pin(self, parts: Collection[PartId]) -> None:
        """Keep parts in memory as long as somebody uses them; a pin may come before its part."""
        self._hot.pool.pin(parts)

    def unpin(self, parts: Sequence[PartId]) -> None:
        """Parts, first blocks first, are used by one less."""
        self._gone_from_memory(self._hot.unpin(parts))

    def reserve(self, nbytes: int) -> None:
        """Make room in memory for more that is going to be read.

        Raises:
            PoolExhaustedError: if it does not fit; then nothing has changed.
        """
        self.claim(Holder.READING, self.pool.claimed(Holder.READING) + nbytes)

    def unreserve(self, nbytes: int) -> None:
        """What was reserved for has come, or will not come any more."""
        self.claim(Holder.READING, self.pool.claimed(Holder.READING) - nbytes)

    def hold(self, part: PartId, handle: PartHandle) -> None:
        """Keep a part in memory, as long as nothing else wants the room."""
        # What has been forgotten while it was read is nobody's child any more.
        parent = self.index.parent(part.key) or self._root
        self._gone_from_memory(self._hot.put(part, parent, handle))

    def add(self, header: BlockHeader, handle: PartHandle, *, durable: bool) -> None:
        """Know a new part. A `durable` one is written; if that cannot be, it is in memory only."""
        old = self.index.superseded(header) if header.kind.begins else ()
        replaced = tuple(part for key in old for part in self.index.parts(key))
        written = durable and self._write(header, handle, replaced)
        if not written:
            self._memory_only.add(header.id)
        self.index.add(header)
        self._replace(replaced, written=written)
        self.hold(header.id, handle)

    def write(self, header: BlockHeader) -> bool:
        """Have a part written that is in memory only; whether it rests on disk now."""
        part = header.id
        handle = self._hot.get(part) if part in self._memory_only else None
        if handle is None:
            return self.rests(part)
        old = self.index.superseded(header) if header.kind.begins else ()
        replaced = tuple(other for key in old for other in self.index.parts(key))
        if not self._write(header, handle, replaced):
            return False
        self._memory_only.discard(part)
        self._replace(replaced, written=True)
        return True

    def rewrite(self, header: BlockHeader, handle: PartHandle) -> bool:
        """The same of a part that is still held, whether it is known or not."""
        if self.rests(header.id):
            return True
        if not self._write(header, handle, ()):
            return False
        self._memory_only.discard(header.id)
        self.index.add(header)
        return True

    def out_of_sight(self, part: PartId) -> None:
        """No running sequence needs the part: in memory it goes first, if it is only there."""
        if part in self._memory_only:
            self._hot.first_to_go(part)

    def keep_in_memory_only(self, part: PartId) -> None:
        """A part leaves the disk; memory keeps it as long as nothing else wants the room."""
        if part in self._hot:
            self._memory_only.add(part)
            self._hot.first_to_go(part)
        else:
            self.forget(part)

    def forget(self, part: PartId) -> tuple[PartId, ...]:
        """A part cannot be used any more: it and what builds on it, which is returned, is lost."""
        return self.let_go(self.index.remove_part(part))

    def let_go(self, removed: Iterable[PartId]) -> tuple[PartId, ...]:
        """Parts have left the index: they leave memory, too."""
        gone = tuple(removed)
        for part in gone:
            self._hot.discard(part)
            self._memory_only.discard(part)
        return gone

    def hear(self) -> None:
        """Learn what became of parts on their way to disk, and on it."""
        for fate in self._writes.fates():
            if fate.kept:
                if fate.part.kind.begins and self._tokens.store is not None:
                    self.index.release(fate.part.key)
            elif fate.part in self._hot and fate.part in self.index:
                self._memory_only.add(fate.part)
            else:
                self.forget(fate.part)

    def _write(self, header: BlockHeader, handle: PartHandle, replaces: tuple[PartId, ...]) -> bool:
        if self._rests_on_memory(header) or not self._writes.has_room(handle.nbytes):
            return False
        on_disk = tuple(part for part in replaces if part not in self._memory_only)
        return self._writes.submit(StoredPart(header, self._executor.export(handle)), on_disk)

    def _replace(self, replaced: tuple[PartId, ...], *, written: bool) -> None:
        for part in replaced:
            # A tail on disk outlives a block that is only in memory: it stays to be found.
            if written or part in self._memory_only:
                self.forget(part)

    def _rests_on_memory(self, header: BlockHeader) -> bool:
        """Whether what a part builds on is not on disk, nor on its way there."""
        below = header.parent if header.kind.begins else header.key
        return any(part in self._memory_only for part in self.index.parts(below)[:1])

    def _gone_from_memory(self, evicted: Iterable[PartId]) -> None:
        for part in evicted:
            if part in self._memory_only:
                self.forget(part)
