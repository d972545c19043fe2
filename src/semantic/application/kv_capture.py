"""What is kept of running sequences: full blocks as they come about, and all that a point takes.

Invariant: a block is kept only where its parent is, so that a chain has no hole. What windows see
of a block is held as long as the sequence may come to a point that needs it. Owned by the engine's
thread.
"""

from dataclasses import replace

from semantic.application.chain import Chain
from semantic.application.disk_admission import DiskAdmission
from semantic.application.kept_parts import KeptParts
from semantic.application.resume_points import ResumePoints
from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.block_hash import TenantKeys, block_key, root_key, tenant_keys
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import BlockKey
from semantic.domain.resume import ResumeRule
from semantic.domain.sequence import Sequence
from semantic.domain.store_secret import StoreSecret
from semantic.ports.model_executor import ModelExecutor, PartHandle


class KvCapture:
    """Seals what the sequences of one model, whose KV can be cut, have computed."""

    def __init__(
        self,
        executor: ModelExecutor,
        parts: KeptParts,
        points: ResumePoints,
        admission: DiskAdmission,
        secret: StoreSecret,
    ) -> None:
        spec = executor.capabilities.spec
        self._executor = executor
        self._parts = parts
        self._points = points
        self._admission = admission
        self._secret = secret
        self._rule = spec.resume_rule if spec else ResumeRule()
        self._root = root_key(parts.namespace, secret)

    def capture(self, sequence: Sequence, chain: Chain) -> None:
        """Seal the full blocks that are complete, and take the point it has come to."""
        while (end := (len(chain.keys) + 1) * BLOCK_SIZE) <= sequence.num_computed:
            chain.keys.append(self._seal(sequence, chain, end - BLOCK_SIZE, end, PartKind.FULL))
        self._pass_out_of_sight(sequence, chain)
        if self._points.is_at(sequence):
            self._take_point(sequence, chain)

    def capture_end(self, sequence: Sequence, chain: Chain) -> None:
        """Seal everything, the last partial block included."""
        self.capture(sequence, chain)
        self._take_point(sequence, chain)
        self._admission.write_what_came_back(sequence, chain)
        self._points.thin_out(sequence, self._keys(sequence))

    def _take_point(self, sequence: Sequence, chain: Chain) -> None:
        """Keep all that going on from here takes."""
        end = sequence.num_computed
        start = len(chain.keys) * BLOCK_SIZE
        tail = None
        if start < end:
            tail = self._seal(sequence, chain, start, end, PartKind.TAIL)
        elif chain.keys and self._rule.recurrent:
            header = self._parts.index.header(chain.keys[-1])
            if header is not None and header.tenant == sequence.tenant:
                durable = self._parts.rests(header.id)
                self._add(sequence, replace(header, kind=PartKind.STATE), durable=durable)
        for key, (_, handle) in chain.behind.items():
            if self._parts.index.tenant(key) == sequence.tenant:
                self._write_sliding(key, handle)
        if tail is not None:
            chain.behind.pop(tail, None)

    def _seal(
        self, sequence: Sequence, chain: Chain, start: int, end: int, kind: PartKind
    ) -> BlockKey:
        """Keep a block: its full attention, what windows see of it and, of a tail, the state."""
        parent = chain.keys[-1] if chain.keys else self._root
        tokens = sequence.computed_tokens(start, end)
        keys = self._keys(sequence)
        key = block_key(parent, tokens, keys.salt if len(chain.keys) == chain.public else b"")
        to_last = self._admission.is_to_last(chain, key)
        if parent != self._root and not self._parts.index.knows(parent):
            return key  # its parent has been forgotten: nothing behind it could be found
        header = BlockHeader(key, parent, self._parts.namespace, kind, start, tokens, keys.tenant)
        durable = to_last and self._admission.write_chain(sequence, chain)
        self._add(sequence, header, durable=durable)
        if self._rule.windows:
            self._add_sliding(sequence, chain, replace(header, kind=PartKind.SLIDING))
        if self._rule.recurrent and kind is PartKind.TAIL:
            self._add(sequence, replace(header, kind=PartKind.STATE), durable=durable)
        if to_last and not self._parts.rests(header.id):
            self._admission.warn_of(header)
        return key

    def _add(self, sequence: Sequence, header: BlockHeader, *, durable: bool) -> None:
        """Seal a part if it is new and still to be had; a `durable` one is written."""
        if header.id in self._parts.index:
            if durable:
                self._parts.write(header)
            return
        handle = self._executor.seal(sequence.id, header.start, header.end, header.kind)
        if handle is not None:
            self._parts.add(header, handle, durable=durable)

    def _add_sliding(self, sequence: Sequence, chain: Chain, header: BlockHeader) -> None:
        """Hold what windows see of a block; it is written where a resume point needs it."""
        handle = self._parts.hot(header.id)
        if handle is None:
            if header.id in self._parts.index:
                return
            handle = self._executor.seal(sequence.id, header.start, header.end, header.kind)
            if handle is None:
                return
            self._parts.add(header, handle, durable=False)
        chain.behind[header.key] = (header.end, handle)

    def _write_sliding(self, key: BlockKey, handle: PartHandle) -> None:
        header = self._parts.index.header(key)
        if header is not None and self._parts.rests(header.id):
            header = replace(header, kind=PartKind.SLIDING)
            if not self._parts.rewrite(header, handle):
                self._admission.warn_of(header)

    def _pass_out_of_sight(self, sequence: Sequence, chain: Chain) -> None:
        """Let go of what no window sees any more."""
        seen = self._rule.first_seen(sequence.num_computed)
        for key in [key for key, (end, _) in chain.behind.items() if end <= seen]:
            del chain.behind[key]
            if self._parts.index.tenant(key) == sequence.tenant:
                self._parts.out_of_sight(PartId(key, PartKind.SLIDING))

    def _keys(self, sequence: Sequence) -> TenantKeys:
        return tenant_keys(sequence.tenant, self._secret)
