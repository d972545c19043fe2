"""Several tenants on one cache, and each of them alone on one of its own.

Blocks are of four tokens, so that a short prompt has many. Whatever a tenant does happens in the
world that all share and in its own; what is public happens in every world.
"""

import queue
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.fakes.blocks import SECRET
from tests.fakes.memory_block_store import MemoryBlockStore
from tests.fakes.observed_stores import PATIENCE_S, ObservedAgents
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_executor import NAMESPACE, ScriptedExecutor
from tests.fakes.scripted_memory import FULL_LAYER, RECURRENT_LAYER, sliding_layer, spec_of
from tests.fakes.small_engine import GREEDY

from semantic.application import kv_cache, kv_capture
from semantic.application.chain import Chain
from semantic.application.kv_cache import CacheLimits, KvCache
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId
from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.block_hash import root_key, tenant_keys
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.domain.ids import PUBLIC, BlockKey, SequenceId, TenantId, TokenId
from semantic.domain.lineage import Lineage
from semantic.domain.prefix_index import BlockUse
from semantic.domain.sequence import Sequence
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.model_executor import AttachedBlock, PartHandle

Tokens = tuple[TokenId, ...]

SIZE = 4
TENANTS = tuple(TenantId(name) for name in ("ann", "bea", "cem"))

MODELS = (
    spec_of(FULL_LAYER),
    spec_of(FULL_LAYER, sliding_layer(6)),
    spec_of(FULL_LAYER, RECURRENT_LAYER),
    spec_of(sliding_layer(3), FULL_LAYER, RECURRENT_LAYER),
)


class World:
    """A cache, those who use it, and a ledger of who sealed what."""

    def __init__(self, spec: ModelCacheSpec) -> None:
        self.blocks = MemoryBlockStore()
        self.sealed: dict[BlockKey, TenantId] = {}
        self.histories: dict[tuple[TenantId, str], list[Tokens]] = {}
        self._spec = spec
        self._count = 0
        self._speaks = PUBLIC
        self.open()

    def open(self) -> None:
        """Start, or start again."""
        self.telemetry = RecordedTelemetry()
        self.executor = ScriptedExecutor(self._spec)
        self.writes = WriteBehind(self.blocks, ObservedAgents(), 1 << 30, self.telemetry)
        limits = CacheLimits(hot_bytes=1 << 30, state_interval=8, resume_points=3)
        self.cache = KvCache(self.executor, self.writes, limits, self.telemetry, SECRET)
        self.cache.discover(self.blocks)
        add = self.cache.parts.index.add

        def noting(header: BlockHeader) -> None:
            self.sealed.setdefault(header.key, self._speaks)
            add(header)

        self.cache.parts.index.add = noting  # type: ignore[method-assign] # looks over its shoulder

    def close(self) -> None:
        assert self.writes.close(PATIENCE_S)

    def restart(self) -> None:
        self.close()
        self.open()

    def match(self, tenant: TenantId, prompt: Tokens) -> tuple[BlockUse, ...]:
        return self.cache.match(prompt, tenant)

    def turn(self, tenant: TenantId, agent: str, prompt: Tokens, system_end: int) -> None:
        """Ask, from what is kept on; answer with two tokens; keep it."""
        self._count += 1
        self._speaks = tenant
        sequence = Sequence(SequenceId(self._count), prompt, GREEDY, 9, system_end)
        sequence.tenant = tenant
        sequence.marks = self.cache.marks(sequence)
        chain = Chain()
        uses, held = self._taken(sequence)
        position = sum(use.length for use in uses)
        self.executor.attach(
            sequence.id, prompt[:position], [_attached(use, held) for use in uses], GREEDY
        )
        self.cache.restored(chain, uses, held)
        sequence.restored(position)
        while sequence.remaining_prefill:
            chunk = prompt[sequence.num_computed :][: min(sequence.stretch, SIZE)]
            last = len(chunk) == sequence.remaining_prefill
            self.executor.run(StepPlan((), PrefillChunk(sequence.id, chunk, last=last)))
            sequence.prefilled(len(chunk))
            if not last:
                self.cache.capture(sequence, chain)
        for _ in range(2):
            result = self.executor.run(StepPlan((sequence.id,)))
            sequence.decoded(result.sampled[0].token)
            self.cache.capture(sequence, chain)
        self.cache.capture_end(sequence, chain)
        self.executor.release(sequence.id)
        history = sequence.computed_tokens(0, sequence.num_computed)
        self.histories.setdefault((tenant, agent), []).append(history)

    def forget(self, tenant: TenantId, agent: str) -> None:
        """Delete an agent, as administration does."""
        own = self._lineage(tenant, self.histories.pop((tenant, agent), []))
        kept = [
            ids
            for (whose, _), branches in self.histories.items()
            for ids in branches
            if whose == tenant
        ]
        self._remove(self.cache.drop(own, self._lineage(tenant, kept, within=own)))

    def lose(self, part: PartId) -> None:
        """A part has turned out to be damaged."""
        self._remove(self.cache.parts.forget(part))

    def lose_leaf(self, tenant: TenantId, number: int) -> PartId | None:
        """Give up one of a tenant's last blocks, as eviction does."""
        index = self.cache.parts.index
        leaves = sorted(
            key
            for key, whose in self.sealed.items()
            if whose == tenant
            and index.knows(key)
            and not any(index.goes_on(key, other) for other in (*TENANTS, PUBLIC))
        )
        if not leaves:
            return None
        part = index.parts(leaves[number % len(leaves)])[0]
        self.lose(part)
        return part

    def _lineage(
        self, tenant: TenantId, branches: list[Tokens], within: Lineage | None = None
    ) -> Lineage:
        root = root_key(NAMESPACE, SECRET)
        return Lineage(branches, root, tenant_keys(tenant, SECRET), SIZE, within=within)

    def _remove(self, parts: tuple[PartId, ...]) -> None:
        removed: queue.SimpleQueue[bool] = queue.SimpleQueue()
        agent = AgentId.parse("a", field="agent")
        self.writes.delete(agent, NAMESPACE, parts, removed.put)
        assert removed.get(timeout=PATIENCE_S)

    def _taken(self, sequence: Sequence) -> tuple[tuple[BlockUse, ...], dict[PartId, PartHandle]]:
        uses = self.match(sequence.tenant, sequence.prompt)
        held: dict[PartId, PartHandle] = {}
        position = 0
        for use in uses:
            for part in use.ids:
                handle = self.cache.parts.hot(part)
                if handle is None:
                    expected = sequence.prompt[position : position + use.length]
                    found = self.blocks.get(NAMESPACE, part)
                    handle = self.cache.adopt(part, expected, found)
                assert handle is not None
                held[part] = handle
            position += use.length
        return uses, held


@dataclass
class Tenants:
    """The world that all share, and those where each is alone with what is public."""

    spec: ModelCacheSpec
    numbers: random.Random
    shared: World = field(init=False)
    alone: dict[TenantId, World] = field(init=False)
    prompts: list[Tokens] = field(default_factory=list)
    reused: int = 0
    """Tokens that were reused, by everybody."""

    def __post_init__(self) -> None:
        self.shared = World(self.spec)
        self.alone = {tenant: World(self.spec) for tenant in (*TENANTS, PUBLIC)}

    def close(self) -> None:
        for world in self._all():
            world.close()

    def step(self) -> int:
        """Something happens, everybody asks the same twice, one is answered. How many asked."""
        self._happen()
        tenant = self._somebody()
        agent = self.numbers.choice(["x", "y"])
        prompt = self._prompt()
        system_end = self.numbers.randrange(len(prompt))
        asked = (prompt, self._prompt())
        for one in asked:
            for other in self.alone:
                self.check(other, one)
        for world in self._worlds_of(tenant):
            world.turn(tenant, agent, prompt, system_end)
        return len(asked) * len(self.alone)

    def check(self, tenant: TenantId, prompt: Tokens) -> None:
        """What a tenant reuses is its own or public, and just what it would reuse alone."""
        uses = self.shared.match(tenant, prompt)
        owners = {self.shared.sealed[use.key] for use in uses}
        assert owners <= {tenant, PUBLIC}, f"{tenant} uses blocks of {owners}"
        assert uses == self.alone[tenant].match(tenant, prompt)
        self.reused += sum(use.length for use in uses)

    def _happen(self) -> None:
        chance = self.numbers.random()
        tenant = self._somebody()
        if chance < 0.03:
            for world in self._all():
                world.restart()
        elif chance < 0.06:
            agent = self.numbers.choice(["x", "y"])
            for world in self._worlds_of(tenant):
                world.forget(tenant, agent)
        elif chance < 0.12:
            if part := self.shared.lose_leaf(tenant, self.numbers.randrange(1 << 30)):
                for world in self._worlds_of(tenant):
                    world.lose(part)
        elif chance < 0.15:
            self._damage(tenant)

    def _damage(self, tenant: TenantId) -> None:
        """Any part of a tenant's is lost, and what builds on it."""
        index = self.shared.cache.parts.index
        parts = sorted(
            (part.key, part.kind.value)
            for key, whose in self.shared.sealed.items()
            if whose == tenant
            for part in index.parts(key)
        )
        if parts:
            key, kind = self.numbers.choice(parts)
            for world in self._worlds_of(tenant):
                world.lose(PartId(BlockKey(key), PartKind(kind)))

    def _somebody(self) -> TenantId:
        return self.numbers.choice([*TENANTS, *TENANTS, PUBLIC])

    def _prompt(self) -> Tokens:
        """Mostly the beginning of what somebody asked, and a little more."""
        begin: Tokens = ()
        if self.prompts:
            begin = self.numbers.choice(self.prompts[-12:])
            begin = begin[: self.numbers.randint(0, len(begin))]
        rest = self.numbers.choices(range(2), k=self.numbers.randint(1, 9))
        prompt = (*begin, *rest)[:26]
        self.prompts.append(prompt)
        return prompt

    def _worlds_of(self, tenant: TenantId) -> Iterator[World]:
        """Where what a tenant does happens."""
        return self._all() if tenant == PUBLIC else iter((self.shared, self.alone[tenant]))

    def _all(self) -> Iterator[World]:
        yield self.shared
        yield from self.alone.values()


def small_blocks(patch: pytest.MonkeyPatch) -> None:
    """Have caches cut blocks of `SIZE` tokens."""
    for module in (kv_cache, kv_capture):
        patch.setattr(module, "BLOCK_SIZE", SIZE)


def _attached(use: BlockUse, held: dict[PartId, PartHandle]) -> AttachedBlock:
    parts = {part.kind: held[part] for part in use.ids}
    return AttachedBlock(
        full=held[use.ids[0]],
        length=use.length,
        sliding=parts.get(PartKind.SLIDING),
        state=parts.get(PartKind.STATE),
    )
