"""The KV of one model: which blocks begin a prompt, and what of a sequence is captured.

Invariants: at least one prompt token is left to compute; reuse is decided by tokens alone. How
blocks are sealed, and where a sequence can be continued from, is known beside this module. Owned by
the engine's thread.
"""

import sys
import weakref
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Tokens
from dataclasses import dataclass

from semantic.application.chain import Chain
from semantic.application.disk_admission import DiskAdmission
from semantic.application.disk_threads import SILENCE_S
from semantic.application.kept_parts import KeptParts
from semantic.application.kv_capture import KvCapture
from semantic.application.memory_gauge import MemoryGauge
from semantic.application.resume_points import ResumePoints
from semantic.application.space_keeper import Served
from semantic.application.stored_tokens import StoredTokens
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import PartId, PartKind, StoredPart
from semantic.domain.block_hash import TenantKeys, root_key, tenant_keys
from semantic.domain.block_pool import BlockPool
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.errors import IncompatibleCacheError
from semantic.domain.ids import BlockKey, TenantId, TokenId
from semantic.domain.lineage import Lineage, private_blocks
from semantic.domain.prefix_index import BlockUse
from semantic.domain.restore_choice import Option, options
from semantic.domain.resume import ResumeRule
from semantic.domain.sequence import Sequence
from semantic.domain.store_secret import StoreSecret
from semantic.ports.block_store import BlockStore
from semantic.ports.model_executor import ModelExecutor, PartHandle
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """`state_interval` is in tokens; of one conversation's resume points `resume_points` stay.

    `silence_s`: for so long the store is waited for on the engine's thread. `kv_bytes` is what all
    KV in memory may take, of which blocks that nobody uses may take `hot_bytes`.
    """

    hot_bytes: int
    state_interval: int
    resume_points: int
    silence_s: float = SILENCE_S
    kv_bytes: int = sys.maxsize


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
        self._spec = capabilities.spec
        self._keeps = capabilities.spec is not None
        self._rule = capabilities.spec.resume_rule if capabilities.spec else ResumeRule()
        self._namespace = capabilities.namespace
        self._secret = secret
        root = root_key(self._namespace, secret)
        self._running: list[weakref.ref[Chain]] = []
        tokens = StoredTokens(self._namespace, limits.silence_s, telemetry)
        pool = BlockPool(limits.kv_bytes, limits.hot_bytes)
        self.gauge = MemoryGauge(pool, telemetry)
        self.parts = KeptParts(executor, writes, pool, tokens, root)
        self._points = ResumePoints(
            self._rule,
            self.parts,
            writes,
            interval=limits.state_interval,
            limit=limits.resume_points,
        )
        admission = DiskAdmission(self.parts, writes, root, telemetry)
        self._capture = KvCapture(executor, self.parts, self._points, admission, secret)

    @property
    def served(self) -> Served:
        """What the store's keeper has to know of this model."""
        reach = self._rule.windows[-1] - 1 if self._rule.windows else 0
        return Served(self._namespace, reach, self._active)

    @property
    def block_bytes(self) -> int:
        """Bytes that all parts of a whole block take in memory; nothing if none is kept."""
        spec = self._spec.unquantized if self._spec else None
        return sum(map(spec.nbytes, (PartKind.FULL, *self._rule.extras))) if spec else 0

    @property
    def hot_bytes(self) -> int:
        """Bytes of blocks that memory may hold."""
        return self._limits.hot_bytes

    def discover(self, store: BlockStore) -> int:
        """Learn what `store` holds of this model; return the number of blocks."""
        if self._keeps:
            self.parts.discover(store)
        return len(self.parts.index)

    def marks(self, sequence: Sequence) -> tuple[int, ...]:
        """Positions of its prompt at which `capture` has to be called."""
        return self._points.marks(sequence) if self._keeps else ()

    def mark(self, sequence: Sequence, position: int) -> None:
        """Have it stop at a position as well, so that another can go on from there."""
        self._points.mark(sequence, position)

    def known(self, sequence: Sequence) -> int:
        """Tokens that it would not have to compute."""
        return sum(use.length for use in self.match(sequence.prefill, sequence.tenant))

    def seen(self, sequence: Sequence) -> int:
        """Tokens of its beginning that whole blocks hold though it may not go on from there.

        Where it can go on from anywhere there are none of that kind.
        """
        if not self._keeps or self._rule.anywhere:
            return 0
        prompt, mine = sequence.prefill[:-1], self._keys(sequence.tenant)
        return max((end for _, end in self.parts.index.whole_blocks(prompt, mine)), default=0)

    def restored_bytes(self, sequence: Sequence) -> int:
        """Bytes of the parts that it would begin with."""
        uses = self.match(sequence.prefill, sequence.tenant)
        return sum(self.nbytes(part) for use in uses for part in use.ids)

    def match(
        self,
        prompt: Tokens[TokenId],
        tenant: TenantId,
        usable: Callable[[PartId], bool] | None = None,
    ) -> tuple[BlockUse, ...]:
        """The longest beginning of `prompt` known to a tenant that leaves a token to compute.

        With `usable`, only such parts count.
        """
        self.parts.hear()
        if not self._keeps:
            return ()
        return self.parts.index.match(prompt[:-1], self._keys(tenant), usable)

    def options(
        self,
        uses: tuple[BlockUse, ...],
        usable: Callable[[PartId], bool],
        to_read: Callable[[PartId], int],
    ) -> tuple[Option, ...]:
        """How much of a matched chain can be used, and the bytes to be read for that."""
        return options(uses, self._rule, usable, to_read)

    def nbytes(self, part: PartId) -> int:
        """Bytes that a part takes in memory, at most."""
        return self._spec.nbytes(part.kind) if self._spec else 0

    def used(self, uses: tuple[BlockUse, ...]) -> None:
        """Count a chain's parts as used now."""
        # Leaves first: when memory is short, the blocks that most chains share stay longest.
        for use in reversed(uses):
            for part in reversed(use.ids):
                self.parts.hot(part)
        self._writes.used(self._namespace, tuple(use.key for use in uses))

    def adopt(
        self, part: PartId, expected: Tokens[TokenId], found: StoredPart | None
    ) -> PartHandle | None:
        """Take a part that was read into memory; None, and it is forgotten, if it cannot serve.

        `expected` are the tokens its block must begin with: reuse is decided by tokens alone.
        """
        self.parts.hear()
        handle = self._imported(part, expected, found) if found else None
        if handle is None:
            self.parts.forget(part)
        else:
            self.parts.hold(part, handle)
        return handle

    def restored(
        self, chain: Chain, uses: tuple[BlockUse, ...], held: Mapping[PartId, PartHandle]
    ) -> None:
        """A sequence begins with `uses`: what it seals follows them."""
        self._running = [one for one in self._running if one() is not None] + [weakref.ref(chain)]
        chain.came_back = uses
        for use in uses:
            if use.length == BLOCK_SIZE:
                chain.keys.append(use.key)
                chain.public += use.public
                if handle := held.get(PartId(use.key, PartKind.SLIDING)):
                    chain.behind[use.key] = (len(chain.keys) * BLOCK_SIZE, handle)

    def drop(self, own: Lineage, others: Lineage) -> tuple[PartId, ...]:
        """Forget the blocks of `own` that the others can do without; return all that went."""
        tops = private_blocks(self.parts.index, own, others)
        return self.parts.let_go(part for top in tops for part in self.parts.index.remove_all(top))

    def capture(self, sequence: Sequence, chain: Chain) -> None:
        """Seal the full blocks that `sequence` has completed, and take the point it has come to.

        Called after every chunk and token.
        """
        if self._keeps:
            self.parts.hear()
            self._capture.capture(sequence, chain)

    def capture_end(self, sequence: Sequence, chain: Chain) -> None:
        """Seal everything, the last partial block included: the sequence is about to end."""
        if self._keeps:
            self.parts.hear()
            self._capture.capture_end(sequence, chain)

    def _imported(
        self, part: PartId, expected: Tokens[TokenId], found: StoredPart
    ) -> PartHandle | None:
        tokens = found.header.tokens
        problem = "it holds other tokens, or is another tenant's"
        agreed = self.parts.index.tenant(part.key) in (None, found.header.tenant)
        if agreed and tokens[: len(expected)] == tuple(expected):
            try:
                return self._executor.import_part(part.kind, found.tensors, len(tokens))
            except IncompatibleCacheError as error:
                problem = str(error)
        self._telemetry.warning("block_unusable", key=part.key, part=part.kind.value, error=problem)
        return None

    def _keys(self, tenant: TenantId) -> TenantKeys:
        return tenant_keys(tenant, self._secret)

    def _active(self) -> frozenset[BlockKey]:
        """Blocks that running sequences stand on. May be asked from any thread."""
        chains = [chain for one in self._running if (chain := one()) is not None]
        return frozenset(key for chain in chains for key in tuple(chain.keys))
