"""All that a cache works with: an engine, stores, and sequences to be kept.

`Running` stands for a sequence in the engine; `Bench` for everything around it.
"""

import queue

from tests.fakes.blocks import SECRET
from tests.fakes.observed_stores import PATIENCE_S, ObservedAgents, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_executor import NAMESPACE, UNIFORM, ScriptedExecutor
from tests.fakes.small_engine import GREEDY

from semantic.application.chain import Chain
from semantic.application.kv_cache import CacheLimits, KvCache
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.block_hash import block_key, root_key, tenant_keys
from semantic.domain.cache_spec import BLOCK_SIZE, ModelCacheSpec
from semantic.domain.ids import DEFAULT_TENANT, BlockKey, SequenceId, TenantId, TokenId
from semantic.domain.sequence import Sequence, SequenceState
from semantic.domain.step_plan import PrefillChunk, StepPlan, next_chunk

Tokens = tuple[TokenId, ...]


def tokens_of(length: int, seed: int = 0) -> Tokens:
    return tuple((seed * 37 + position * 7) % 95 for position in range(length))


def keys_of(tokens: Tokens, tenant: TenantId = DEFAULT_TENANT) -> list[BlockKey]:
    """Keys of all blocks of `tokens`, the tail's last, as one tenant alone has them."""
    keys: list[BlockKey] = []
    parent, salt = root_key(NAMESPACE, SECRET), tenant_keys(tenant, SECRET).salt
    for start in range(0, len(tokens), BLOCK_SIZE):
        parent, salt = block_key(parent, tokens[start : start + BLOCK_SIZE], salt), b""
        keys.append(parent)
    return keys


def ids_of(tokens: Tokens) -> list[PartId]:
    """Names of the parts that the blocks of `tokens` exist by."""
    kinds = [PartKind.FULL] * (len(tokens) // BLOCK_SIZE) + [PartKind.TAIL]
    return [PartId(key, kind) for key, kind in zip(keys_of(tokens), kinds, strict=False)]


class Running:
    """A prompt in the engine."""

    def __init__(self, bench: "Bench", sequence: Sequence) -> None:
        self.chain = Chain()
        self.bench = bench
        self.sequence = sequence
        bench.executor.attach(sequence.id, (), (), GREEDY)
        sequence.restored(0)

    def prefill(self, length: int) -> None:
        """Compute one chunk."""
        start = self.sequence.num_computed
        chunk = self.sequence.prompt[start : start + length]
        last = length == self.sequence.remaining_prefill
        self.bench.executor.run(StepPlan((), PrefillChunk(self.sequence.id, chunk, last=last)))
        self.sequence.prefilled(length)

    def prefill_as_planned(self, budget: int = 512) -> None:
        """Compute the whole prompt in chunks as the engine's work does, capturing between them."""
        sequence = self.sequence
        while sequence.state is SequenceState.PREFILL:
            stretch = sequence.stretch
            self.prefill(next_chunk(sequence.num_computed, stretch, budget, BLOCK_SIZE))
            if sequence.state is SequenceState.PREFILL:
                self.capture()

    def decode(self, count: int, *, capturing: bool = True) -> None:
        """Generate tokens, capturing after each or not at all."""
        for _ in range(count):
            result = self.bench.executor.run(StepPlan((self.sequence.id,)))
            self.sequence.decoded(result.sampled[0].token)
            if capturing:
                self.capture()

    def capture(self) -> None:
        self.bench.cache.capture(self.sequence, self.chain)

    def end(self) -> Tokens:
        """Capture everything and leave; all tokens that were computed."""
        self.bench.cache.capture_end(self.sequence, self.chain)
        self.leave()
        return self.sequence.computed_tokens(0, self.sequence.num_computed)

    def leave(self) -> None:
        self.bench.executor.release(self.sequence.id)


class Bench:
    """A cache over stores in memory."""

    def __init__(
        self,
        spec: ModelCacheSpec | None = UNIFORM,
        *,
        hot_bytes: int = 1 << 20,
        queue_bytes: int = 1 << 20,
        state_interval: int = 2048,
        resume_points: int = 8,
        blocks: ObservedBlocks | None = None,
    ) -> None:
        self.executor = ScriptedExecutor(spec)
        self.blocks = blocks or ObservedBlocks()
        self.telemetry = RecordedTelemetry()
        self.writes = WriteBehind(self.blocks, ObservedAgents(), queue_bytes, self.telemetry)
        self.limits = CacheLimits(hot_bytes, state_interval, resume_points)
        self.cache = KvCache(self.executor, self.writes, self.limits, self.telemetry, SECRET)
        self._count = 0

    def restarted(self) -> "Bench":
        """A new process over the same blocks, which are known."""
        self.flush()
        bench = Bench(
            self.executor.spec,
            hot_bytes=self.limits.hot_bytes,
            state_interval=self.limits.state_interval,
            resume_points=self.limits.resume_points,
            blocks=self.blocks,
        )
        bench.cache.discover(bench.blocks)
        return bench

    def begin(
        self, prompt: Tokens, system_end: int = 0, tenant: TenantId = DEFAULT_TENANT
    ) -> Running:
        """A sequence of which nothing is computed yet."""
        self._count += 1
        sequence = Sequence(SequenceId(self._count), prompt, GREEDY, 5000, system_end)
        sequence.tenant = tenant
        sequence.marks = self.cache.marks(sequence)
        return Running(self, sequence)

    def run(self, computed: Tokens) -> Running:
        """A sequence that has computed `computed`; the last token of its prompt comes behind."""
        running = self.begin((*computed, 94))
        running.sequence.marks = ()
        if computed:
            running.prefill(len(computed))
        return running

    def keep(self, computed: Tokens) -> None:
        """A sequence that has come and gone, everything captured at the end."""
        self.run(computed).end()

    def answer(self, prompt: Tokens, count: int = 1, system_end: int = 0) -> Tokens:
        """A turn from beginning to end; all its tokens."""
        running = self.begin(prompt, system_end)
        running.prefill_as_planned()
        running.decode(count)
        return running.end()

    def catch_up(self) -> None:
        """Have what is queued written."""
        self.blocks.writing.open()
        written: queue.SimpleQueue[bool] = queue.SimpleQueue()
        record = AgentRecord("a", NAMESPACE, branches=(), updated_at=0.0)
        self.writes.save(AgentId.parse("a", field="agent"), record, written.put)
        assert written.get(timeout=PATIENCE_S)

    def flush(self) -> None:
        self.blocks.writing.open()
        assert self.writes.close(PATIENCE_S)

    def stored(self) -> list[BlockHeader]:
        self.flush()
        return list(self.blocks.headers(NAMESPACE))

    def ends_of(self, *kinds: PartKind) -> list[int]:
        """Where the blocks end of which such parts are stored."""
        self.catch_up()
        return sorted(one.end for one in self.blocks.headers(NAMESPACE) if one.kind in kinds)

    def hot_ends(self, tokens: Tokens, kind: PartKind) -> list[int]:
        """Where the full blocks of `tokens` end of which such parts are in memory."""
        keys = keys_of(tokens)[: len(tokens) // BLOCK_SIZE]
        held = [self.cache.parts.hot(PartId(key, kind)) is not None for key in keys]
        return [number * BLOCK_SIZE for number, there in enumerate(held, 1) if there]

    def matched(self, prompt: Tokens, tenant: TenantId = DEFAULT_TENANT) -> int:
        """How many tokens of a prompt are known."""
        return sum(use.length for use in self.cache.match(prompt, tenant))

    def puts(self) -> list[PartId | str]:
        """The parts that were written, in order."""
        return [part for action, part in self.blocks.journal.entries if action == "put"]

    def warnings(self) -> list[str]:
        return [event for level, event, _ in self.telemetry.events if level == "warning"]
