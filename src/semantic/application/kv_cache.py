"""What KV exists, and where: in memory, on its way to disk, on disk.

Decides which blocks begin a prompt, and captures new ones from running sequences. Where a model
cannot be continued from just anywhere, it takes resume points at marks (ADR-004): what windows
and states need is written for these only. Invariants: at least one prompt token is left to
compute; a block is kept only where its parent is, and handed to the disk only after it, so that a
chain has no hole. Owned by the engine's thread.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field, replace

from semantic.application.hot_parts import HotParts
from semantic.application.space_keeper import Served
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import BlockHeader, PartId, PartKind, StoredPart
from semantic.domain.block_hash import TenantKeys, block_key, root_key, tenant_keys
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.errors import CachePersistenceError, IncompatibleCacheError
from semantic.domain.ids import BlockKey, TenantId, TokenId
from semantic.domain.lineage import Lineage, private_blocks
from semantic.domain.prefix_index import BlockUse, PrefixIndex
from semantic.domain.resume import ResumeRule, resume_marks
from semantic.domain.sequence import Sequence
from semantic.domain.store_secret import StoreSecret
from semantic.domain.thinning import thinned
from semantic.ports.block_store import BlockStore
from semantic.ports.model_executor import ModelExecutor, PartHandle
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """`state_interval` is in tokens; of one conversation's resume points `resume_points` stay."""

    hot_bytes: int
    state_interval: int
    resume_points: int


@dataclass(slots=True, eq=False, weakref_slot=True)
class Chain:
    """What a running sequence has sealed.

    `keys` are those of its full blocks, from the first token on, the first `public` of them for
    all; `behind` are the ends of those that windows still see, and what they see of them.
    """

    keys: list[BlockKey] = field(default_factory=list)
    public: int = 0
    behind: dict[BlockKey, tuple[int, PartHandle]] = field(default_factory=dict)


class KvCache:
    """The KV of one model."""

    def __init__(
        self,
        executor: ModelExecutor,
        writes: WriteBehind,
        limits: CacheLimits,
        telemetry: Telemetry,
        secret: StoreSecret,
    ) -> None:
        capabilities = executor.capabilities
        self._executor = executor
        self._writes = writes
        self._limits = limits
        self._telemetry = telemetry
        self._keeps = capabilities.spec is not None
        self._rule = capabilities.spec.resume_rule if capabilities.spec else ResumeRule()
        self._namespace = capabilities.namespace
        self._secret = secret
        self._root = root_key(self._namespace, secret)
        self._store: BlockStore | None = None
        self._index = PrefixIndex(self._root, BLOCK_SIZE, self._rule, self._stored_tokens)
        self._hot = HotParts(limits.hot_bytes)
        self._memory_only: set[PartId] = set()
        self._running: list[weakref.ref[Chain]] = []

    @property
    def served(self) -> Served:
        """What the store's keeper has to know of this model."""
        reach = self._rule.windows[-1] - 1 if self._rule.windows else 0
        return Served(self._namespace, reach, self._active)

    def discover(self, store: BlockStore) -> int:
        """Learn what `store` holds of this model; return the number of blocks."""
        self._store = store
        if self._keeps:
            self._index.learn(self._namespace, store.outlines(self._namespace))
        return len(self._index)

    def marks(self, sequence: Sequence) -> tuple[int, ...]:
        """Positions of its prompt at which `capture` has to be called; see `resume_marks`."""
        if not self._keeps:
            return ()
        return resume_marks(
            self._rule, sequence.num_prompt, sequence.system_end, self._limits.state_interval
        )

    def match(
        self,
        prompt: Tokens[TokenId],
        tenant: TenantId,
        held: Mapping[PartId, PartHandle] | None = None,
    ) -> tuple[BlockUse, ...]:
        """The longest beginning of `prompt` known to a tenant that leaves a token to compute.

        With `held`, only these parts count.
        """
        self._hear()
        available: Callable[[PartId], bool] | None = None if held is None else held.__contains__
        if not self._keeps:
            return ()
        return self._index.match(prompt[:-1], self._keys(tenant), available)

    def used(self, uses: tuple[BlockUse, ...]) -> None:
        """Count a chain's parts as used now."""
        # Leaves first: when memory is short, the blocks that most chains share stay longest.
        for use in reversed(uses):
            for part in reversed(use.ids):
                self._hot.get(part)
        self._writes.used(self._namespace, tuple(use.key for use in uses))

    def hot(self, part: PartId) -> PartHandle | None:
        """The part, if it is in memory."""
        return self._hot.get(part)

    def adopt(
        self, part: PartId, expected: Tokens[TokenId], found: StoredPart | None
    ) -> PartHandle | None:
        """Take a part that was read into memory; None, and it is forgotten, if it cannot serve.

        `expected` are the tokens its block must begin with: reuse is decided by tokens alone.
        """
        self._hear()
        handle = self._imported(part, expected, found) if found else None
        if handle is None:
            self.forget(part)
        else:
            self._hold(part, handle)
        return handle

    def restored(
        self, chain: Chain, uses: tuple[BlockUse, ...], held: Mapping[PartId, PartHandle]
    ) -> None:
        """A sequence begins with `uses`: what it seals follows them."""
        self._running = [one for one in self._running if one() is not None] + [weakref.ref(chain)]
        for use in uses:
            if use.length == BLOCK_SIZE:
                chain.keys.append(use.key)
                chain.public += use.public
                if handle := held.get(PartId(use.key, PartKind.SLIDING)):
                    chain.behind[use.key] = (len(chain.keys) * BLOCK_SIZE, handle)

    def forget(self, part: PartId) -> tuple[PartId, ...]:
        """A part cannot be used any more: it and what builds on it, which is returned, is lost."""
        return self._let_go(self._index.remove_part(part))

    def drop(self, own: Lineage, others: Lineage) -> tuple[PartId, ...]:
        """Forget the blocks of `own` that the others can do without; return all that went."""
        tops = private_blocks(self._index, own, others)
        return self._let_go(part for top in tops for part in self._index.remove_all(top))

    def capture(self, sequence: Sequence, chain: Chain) -> None:
        """Seal the full blocks that `sequence` has completed, and take the point it has come to.

        Called after every chunk and token.
        """
        if not self._keeps:
            return
        self._hear()
        while (end := (len(chain.keys) + 1) * BLOCK_SIZE) <= sequence.num_computed:
            chain.keys.append(self._seal(sequence, chain, end - BLOCK_SIZE, end, PartKind.FULL))
        self._pass_out_of_sight(sequence, chain)
        if self._is_mark(sequence):
            self._take_resume_point(sequence, chain)

    def capture_end(self, sequence: Sequence, chain: Chain) -> None:
        """Seal everything, the last partial block included: the sequence is about to end."""
        self.capture(sequence, chain)
        if self._keeps:
            self._take_resume_point(sequence, chain)
            self._thin_out(sequence)

    def _is_mark(self, sequence: Sequence) -> bool:
        position = sequence.num_computed
        if self._rule.recurrent and position % self._limits.state_interval == 0:
            return True
        return position in sequence.marks

    def _take_resume_point(self, sequence: Sequence, chain: Chain) -> None:
        """Keep all that going on from here takes."""
        end = sequence.num_computed
        start = len(chain.keys) * BLOCK_SIZE
        tail = None
        if start < end:
            tail = self._seal(sequence, chain, start, end, PartKind.TAIL)
        elif chain.keys and self._rule.recurrent:
            header = self._index.header(chain.keys[-1])
            if header is not None and header.tenant == sequence.tenant:
                self._add(sequence, replace(header, kind=PartKind.STATE))
        for key, (_, handle) in chain.behind.items():
            if self._index.tenant(key) == sequence.tenant:
                self._write_sliding(key, handle)
        if tail is not None:
            chain.behind.pop(tail, None)

    def _seal(
        self, sequence: Sequence, chain: Chain, start: int, end: int, kind: PartKind
    ) -> BlockKey:
        """Keep a block: its full attention, what windows see of it and, of a tail, the state."""
        parent = chain.keys[-1] if chain.keys else self._root
        tokens = sequence.computed_tokens(start, end)
        keys = self._keys(sequence.tenant)
        key = block_key(parent, tokens, keys.salt if len(chain.keys) == chain.public else b"")
        if parent != self._root and not self._index.knows(parent):
            return key  # its parent has been forgotten: nothing behind it could be found
        header = BlockHeader(key, parent, self._namespace, kind, start, tokens, keys.tenant)
        self._add(sequence, header)
        if self._rule.windows:
            self._add_sliding(sequence, chain, replace(header, kind=PartKind.SLIDING))
        if self._rule.recurrent and kind is PartKind.TAIL:
            self._add(sequence, replace(header, kind=PartKind.STATE))
        return key

    def _add(self, sequence: Sequence, header: BlockHeader) -> None:
        """Seal a part and have it written, if it is new and still to be had."""
        handle = self._new(sequence, header)
        if handle is None:
            return
        old = self._index.superseded(header) if header.kind.begins else ()
        replaced = tuple(part for key in old for part in self._index.parts(key))
        written = self._write(StoredPart(header, self._executor.export(handle)), replaced)
        self._index.add(header)
        for part in replaced:
            # A tail on disk outlives a block that is only in memory: it stays to be found.
            if written or part in self._memory_only:
                self.forget(part)
        self._hold(header.id, handle)

    def _add_sliding(self, sequence: Sequence, chain: Chain, header: BlockHeader) -> None:
        """Hold what windows see of a block; it is written where a resume point needs it."""
        handle = self._hot.get(header.id)
        if handle is None:
            handle = self._new(sequence, header)
            if handle is None:
                return
            self._index.add(header)
            self._memory_only.add(header.id)
            self._hold(header.id, handle)
        chain.behind[header.key] = (header.end, handle)

    def _new(self, sequence: Sequence, header: BlockHeader) -> PartHandle | None:
        if header.id in self._index:
            return None
        return self._executor.seal(sequence.id, header.start, header.end, header.kind)

    def _write_sliding(self, key: BlockKey, handle: PartHandle) -> None:
        header = self._index.header(key)
        part = PartId(key, PartKind.SLIDING)
        if header is None or (part in self._index and part not in self._memory_only):
            return
        header = replace(header, kind=PartKind.SLIDING)
        if self._write(StoredPart(header, self._executor.export(handle)), ()):
            self._memory_only.discard(part)
            self._index.add(header)
        elif part not in self._index:
            self._memory_only.discard(part)

    def _pass_out_of_sight(self, sequence: Sequence, chain: Chain) -> None:
        """Let go of what no window sees any more."""
        seen = self._rule.first_seen(sequence.num_computed)
        for key in [key for key, (end, _) in chain.behind.items() if end <= seen]:
            del chain.behind[key]
            part = PartId(key, PartKind.SLIDING)
            if part in self._memory_only and self._index.tenant(key) == sequence.tenant:
                self._hot.first_to_go(part)

    def _thin_out(self, sequence: Sequence) -> None:
        """Give up the resume points that are too many, and on disk what no other needs."""
        plan = thinned(
            self._index,
            sequence.computed_tokens(0, sequence.num_computed),
            self._keys(sequence.tenant),
            limit=self._limits.resume_points,
            system_end=sequence.system_end,
            marks=() if self._rule.recurrent else sequence.marks,
        )
        gone = [
            part for point in plan.points for first in point.parts for part in self.forget(first)
        ]
        for part in plan.unseen:
            if part not in self._memory_only:
                gone.append(part)
                self._keep_in_memory_only(part)
        if gone:
            self._writes.discard(self._namespace, tuple(gone))

    def _keep_in_memory_only(self, part: PartId) -> None:
        """A part leaves the disk; memory keeps it as long as nothing else wants the room."""
        if part in self._hot:
            self._memory_only.add(part)
            self._hot.first_to_go(part)
        else:
            self.forget(part)

    def _imported(
        self, part: PartId, expected: Tokens[TokenId], found: StoredPart
    ) -> PartHandle | None:
        tokens = found.header.tokens
        problem = "it holds other tokens, or is another tenant's"
        agreed = self._index.tenant(part.key) in (None, found.header.tenant)
        if agreed and tokens[: len(expected)] == tuple(expected):
            try:
                return self._executor.import_part(part.kind, found.tensors, len(tokens))
            except IncompatibleCacheError as error:
                problem = str(error)
        self._telemetry.warning("block_unusable", key=part.key, part=part.kind.value, error=problem)
        return None

    def _hear(self) -> None:
        """Learn what became of parts on their way to disk, and on it."""
        for fate in self._writes.fates():
            if fate.kept:
                if fate.part.kind.begins and self._store is not None:
                    self._index.release(fate.part.key)
            elif fate.part in self._hot and fate.part in self._index:
                self._memory_only.add(fate.part)
            else:
                self.forget(fate.part)

    def _keys(self, tenant: TenantId) -> TenantKeys:
        return tenant_keys(tenant, self._secret)

    def _active(self) -> frozenset[BlockKey]:
        """Blocks that running sequences stand on. May be asked from any thread."""
        chains = [chain for one in self._running if (chain := one()) is not None]
        return frozenset(key for chain in chains for key in tuple(chain.keys))

    def _let_go(self, removed: Iterable[PartId]) -> tuple[PartId, ...]:
        gone = tuple(removed)
        for part in gone:
            self._hot.discard(part)
            self._memory_only.discard(part)
        return gone

    def _stored_tokens(self, keys: Tokens[BlockKey]) -> Mapping[BlockKey, bytes]:
        """Tokens of blocks in the store. Those it cannot tell are not found, and recomputed."""
        if self._store is None or not keys:
            return {}
        try:
            return self._store.tokens(self._namespace, keys)
        except CachePersistenceError as error:
            self._telemetry.warning("tokens_unreadable", error=str(error))
            return {}

    def _write(self, part: StoredPart, replaces: tuple[PartId, ...]) -> bool:
        if not self._rests_on_memory(part.header) and self._writes.submit(part, replaces):
            return True
        self._memory_only.add(part.header.id)
        if self._writes.writing:
            self._telemetry.warning(
                "block_kept_in_memory_only", key=part.header.key, part=part.header.kind.value
            )
        return False

    def _rests_on_memory(self, header: BlockHeader) -> bool:
        """Whether what a part builds on is not on disk, nor on its way there."""
        below = header.parent if header.kind.begins else header.key
        return any(part in self._memory_only for part in self._index.parts(below)[:1])

    def _hold(self, part: PartId, handle: PartHandle) -> None:
        for evicted in self._hot.put(part, handle):
            if evicted in self._memory_only:
                self.forget(evicted)
