"""What KV exists, and where: in memory, on its way to disk, on disk.

Decides which blocks begin a prompt, and captures new ones from running sequences. Invariants:
at least one prompt token is left to compute; a block is kept only where its parent is, and handed
to the disk only after it, so that a chain has no hole. Owned by the engine's thread.
"""

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from semantic.application.hot_blocks import HotBlocks
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import BlockHeader, BlockKind, StoredBlock
from semantic.domain.block_hash import block_key, root_key
from semantic.domain.cache_spec import BLOCK_SIZE, Granularity
from semantic.domain.errors import IncompatibleCacheError
from semantic.domain.ids import BlockKey, TokenId
from semantic.domain.lineage import Lineage, private_blocks
from semantic.domain.prefix_index import BlockUse, PrefixIndex
from semantic.domain.sequence import Sequence
from semantic.ports.block_store import BlockStore
from semantic.ports.model_executor import BlockHandle, ModelExecutor
from semantic.ports.telemetry import Telemetry


@dataclass(slots=True)
class Chain:
    """The keys of a running sequence's full blocks, from its first token on."""

    keys: list[BlockKey] = field(default_factory=list)


class KvCache:
    """The KV of one model."""

    def __init__(
        self,
        executor: ModelExecutor,
        writes: WriteBehind,
        hot_bytes: int,
        telemetry: Telemetry,
    ) -> None:
        capabilities = executor.capabilities
        self._executor = executor
        self._writes = writes
        self._telemetry = telemetry
        self._keeps = capabilities.granularity is not Granularity.NONE
        self._namespace = capabilities.namespace
        self._root = root_key(self._namespace)
        self._index = PrefixIndex(self._root, BLOCK_SIZE)
        self._hot = HotBlocks(hot_bytes)
        self._memory_only: set[BlockKey] = set()

    def discover(self, store: BlockStore) -> int:
        """Learn what `store` holds of this model; return the number of blocks."""
        if self._keeps:
            for header in store.headers(self._namespace):
                self._index.add(header)
        return len(self._index)

    def match(self, prompt: Tokens[TokenId]) -> tuple[BlockUse, ...]:
        """The longest known beginning of `prompt` that leaves a token to compute."""
        return self._index.match(prompt[:-1]) if self._keeps else ()

    def used(self, uses: tuple[BlockUse, ...]) -> None:
        """Count a chain's blocks as used now."""
        # Leaves first: when memory is short, the blocks that most chains share stay longest.
        for use in reversed(uses):
            self._hot.get(use.key)

    def hot(self, key: BlockKey) -> BlockHandle | None:
        """The block, if it is in memory."""
        return self._hot.get(key)

    def adopt(
        self, use: BlockUse, expected: Tokens[TokenId], block: StoredBlock | None
    ) -> BlockHandle | None:
        """Take a block that was read into memory; None, and it is forgotten, if it cannot serve.

        `expected` are the tokens it must begin with: reuse is decided by tokens alone.
        """
        handle = self._imported(use, expected, block) if block else None
        if handle is None:
            self.forget(use.key)
        else:
            self._hold(use.key, handle)
        return handle

    def forget(self, key: BlockKey) -> tuple[BlockKey, ...]:
        """A block cannot be used any more: it and what follows it, which is returned, is lost."""
        removed = self._index.remove(key)
        for gone in removed:
            self._hot.discard(gone)
            self._memory_only.discard(gone)
        return removed

    def drop(self, own: Lineage, others: Lineage) -> tuple[BlockKey, ...]:
        """Forget the blocks of `own` that the others can do without; return all that went."""
        tops = private_blocks(self._index, own, others)
        return tuple(key for top in tops for key in self.forget(top))

    def capture(self, sequence: Sequence, chain: Chain) -> None:
        """Seal the full blocks that `sequence` has completed since the last call."""
        if not self._keeps:
            return
        while (end := (len(chain.keys) + 1) * BLOCK_SIZE) <= sequence.num_computed:
            chain.keys.append(self._seal(sequence, chain, end - BLOCK_SIZE, end, BlockKind.FULL))

    def capture_tail(self, sequence: Sequence, chain: Chain) -> None:
        """Seal everything, the last partial block included: the sequence is about to end."""
        self.capture(sequence, chain)
        start = len(chain.keys) * BLOCK_SIZE
        if self._keeps and start < sequence.num_computed:
            self._seal(sequence, chain, start, sequence.num_computed, BlockKind.TAIL)

    def _imported(
        self, use: BlockUse, expected: Tokens[TokenId], block: StoredBlock
    ) -> BlockHandle | None:
        problem = "it holds other tokens"
        if block.header.tokens[: use.length] == tuple(expected):
            try:
                return self._executor.import_parts(block.parts, len(block.header.tokens))
            except IncompatibleCacheError as error:
                problem = str(error)
        self._telemetry.warning("block_unusable", key=use.key, error=problem)
        return None

    def _seal(
        self, sequence: Sequence, chain: Chain, start: int, end: int, kind: BlockKind
    ) -> BlockKey:
        parent = chain.keys[-1] if chain.keys else self._root
        tokens = sequence.computed_tokens(start, end)
        key = block_key(parent, tokens)
        if key in self._index or self._lost(parent):
            return key
        header = BlockHeader(key, parent, self._namespace, kind, start, tokens)
        handle = self._executor.seal(sequence.id, start, end)
        replaced = self._index.superseded(header)
        written = self._write(StoredBlock(header, self._executor.export(handle)), replaced)
        self._index.add(header)
        for old in replaced:
            # A tail on disk outlives a block that is only in memory: it stays to be found.
            if written or old in self._memory_only:
                self.forget(old)
        self._hold(key, handle)
        return key

    def _lost(self, parent: BlockKey) -> bool:
        """Whether a block's parent has been forgotten: nothing behind it could be found."""
        return parent != self._root and parent not in self._index

    def _write(self, block: StoredBlock, replaces: tuple[BlockKey, ...]) -> bool:
        header = block.header
        if header.parent not in self._memory_only and self._writes.submit(block, replaces):
            return True
        self._memory_only.add(header.key)
        self._telemetry.warning("block_kept_in_memory_only", key=header.key)
        return False

    def _hold(self, key: BlockKey, handle: BlockHandle) -> None:
        for evicted in self._hot.put(key, handle):
            if evicted in self._memory_only:
                self.forget(evicted)
