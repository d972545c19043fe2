"""All that happens to requests inside the engine, one turn at a time, on one thread.

    accept ──> match ──> load ──> attach ──> step, step, ... ──> seal ──> end
                 ^                                |
                 └── memory is short, or a step failed

Invariant: a job that was accepted is waiting, loading or in the engine until it ends, and what
memory it holds is given back then. What is told of it, and how it leaves the engine before its end,
is known beside this module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from semantic.application.block_reader import BlockReader
from semantic.application.engine_job import Job, JobStarted, Loading
from semantic.application.interruptions import Interruptions
from semantic.application.kv_cache import KvCache
from semantic.application.kv_memory import KvMemory
from semantic.application.prefix_loading import LoadingLimits, LoadingParts, PrefixLoading
from semantic.application.scheduler import Scheduler
from semantic.application.unfinished_jobs import UnfinishedJobs
from semantic.application.waiting_jobs import Ready, WaitingJobs
from semantic.domain.block import PartId, PartKind, StoredPart
from semantic.domain.chat import FinishReason
from semantic.domain.errors import IncompatibleCacheError, PoolExhaustedError
from semantic.domain.ids import SequenceId
from semantic.domain.lineage import Lineage
from semantic.domain.prefix_index import BlockUse
from semantic.domain.reuse import MissCause
from semantic.domain.sequence import SequenceState
from semantic.domain.step_plan import SampledToken, StepPlan
from semantic.ports.clock import Clock
from semantic.ports.model_executor import AttachedBlock, ModelExecutor, PartHandle
from semantic.ports.telemetry import Telemetry

_READS_S = 5.0
"""So long a job waits for the memory of blocks that are read for nobody any more: a disk that hangs
may never bring them."""

_SHARE_FOR_IMPORT = 0.5
"""Of what those who decode may wait for: so long blocks that were read are taken in, at most."""


@dataclass(frozen=True, slots=True)
class EngineParts:
    """What the work is done with."""

    executor: ModelExecutor
    cache: KvCache
    scheduler: Scheduler
    reader: BlockReader
    clock: Clock
    telemetry: Telemetry
    loading: LoadingLimits


class EngineWork:
    """The jobs in work and waiting. Every call comes from the engine's thread.

    `deliver` is given to the reader: it takes blocks from reading threads and must bring them
    back to `arrived` on this thread. `closed` is called when a job has ended.
    """

    def __init__(
        self,
        parts: EngineParts,
        deliver: Callable[[PartId, StoredPart | None], None],
        closed: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._closed = closed
        self._jobs = UnfinishedJobs(parts.cache, parts.telemetry, self._left)
        self._loading = PrefixLoading(
            LoadingParts(
                parts.executor.capabilities.namespace,
                parts.cache,
                parts.reader,
                parts.clock,
                parts.telemetry,
                deliver,
            ),
            parts.loading,
            self._attach,
            self._jobs.guarded,
        )
        self._memory = KvMemory(parts.cache, parts.scheduler)
        self._waiting = WaitingJobs(parts.scheduler, self._memory, parts.cache, self._jobs.by_id)
        self._interruptions = Interruptions(
            parts.executor, parts.telemetry, self._jobs, self._waiting, self._loading
        )
        self._turned_at = parts.clock.monotonic()
        self._stuck_since: float | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing can be done until a message comes."""
        if not self._parts.scheduler.plan().empty or self._waiting.next() is not None:
            return False
        return self._stuck() is None

    @property
    def hurried(self) -> bool:
        """Whether those who decode wait already: what has come can be taken in after a step."""
        if not self._parts.scheduler.decoding:
            return False
        return self._spent() > self._parts.scheduler.pace.target_s * _SHARE_FOR_IMPORT

    def patience(self) -> float | None:
        """Seconds until reading is given up, or a job is; None if nothing is awaited."""
        patience = self._loading.patience()
        if self._stuck_since is None:
            return patience
        left = max(0.0, self._stuck_since + _READS_S - self._parts.clock.monotonic())
        return left if patience is None else min(left, patience)

    def accept(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.add(job)
        self._parts.scheduler.enter(job.sequence)
        self._waiting.add(job)

    def cancel(self, sequence: SequenceId) -> None:
        """End a job early, keeping what it computed. Unknown ones are ignored."""
        if job := self._jobs.by_id.get(sequence):
            self._jobs.guarded(job, partial(self._jobs.end, reason=FinishReason.CANCELLED))

    def cancel_all(self) -> None:
        """End all jobs."""
        for sequence in list(self._jobs.by_id):
            self.cancel(sequence)

    def fail_all(self, error: Exception) -> None:
        """End all jobs with an error, and keep nothing: the engine's state is unknown."""
        self._jobs.fail(self._jobs.by_id.values(), error)

    def arrived(self, part: PartId, found: StoredPart | None) -> None:
        """A part that jobs wait for has been read, or could not be."""
        self._loading.arrived(part, found)

    def drop(self, own: Lineage, others: Lineage) -> tuple[PartId, ...]:
        """Forget blocks; running jobs have their own copies. See `KvCache.drop`."""
        return self._parts.cache.drop(own, others)

    def turn(self) -> None:
        """Give up on late reads, admit what fits, perform one step."""
        if not self._parts.scheduler.decoding:
            # Nobody has waited for a token: waiting for a message is nobody's delay.
            self._turned_at = self._parts.clock.monotonic()
        self._loading.expire()
        while (ready := self._waiting.next()) is not None:
            self._jobs.guarded(ready.job, partial(self._admit, ready=ready))
        if (job := self._stuck()) is not None:
            self._jobs.guarded(job, self._refuse)
        try:
            self._memory.grow(self._give_way)
        except PoolExhaustedError:
            # What nobody waits for any more is being read yet: memory comes when it has come.
            for job in self._jobs.in_engine():
                self._interruptions.give_way(job)
            self._memory.settle()
        plan = self._parts.scheduler.plan(self._spent())
        if not plan.empty:
            try:
                self._step(plan)
            except Exception as error:  # noqa: BLE001 - whatever it was, no request may hang
                self._interruptions.recover(error)
                self._memory.settle()
        self._turned(plan)

    def _spent(self) -> float:
        """Seconds since those who decode had a token."""
        return self._parts.clock.monotonic() - self._turned_at

    def _turned(self, plan: StepPlan) -> None:
        if not plan.empty:
            self._parts.scheduler.performed(plan, self._spent())
        self._turned_at = self._parts.clock.monotonic()
        self._memory.look()

    def _admit(self, job: Job, ready: Ready) -> None:
        """Find what is known of the prompt; begin, or begin to read."""
        sequence = job.sequence
        self._waiting.begins(ready)
        with self._memory.begun(sequence, ready.place, alone=bool(job.strikes)):
            sequence.move(SequenceState.LOADING)
            sequence.marks = self._parts.cache.marks(sequence)
            self._loading.begin(job)

    def _stuck(self) -> Job | None:
        """A job that nothing is in the way of but memory, and that waits for nothing any more."""
        job = self._waiting.stuck()
        if job is None or not self._memory.is_awaited:
            self._stuck_since = None
            return job
        now = self._parts.clock.monotonic()
        if self._stuck_since is None:
            self._stuck_since = now
        return job if now >= self._stuck_since + _READS_S else None

    @staticmethod
    def _refuse(_job: Job) -> None:
        """Nothing is in work, and there is no room all the same: it would wait for ever."""
        raise PoolExhaustedError("the memory for KV does not hold this request")

    def _attach(self, job: Job, loading: Loading) -> None:
        """The parts are there: attach the blocks, in order."""
        job.loading = None
        job.prompt_scores.clear()
        sequence = job.sequence
        uses, held = loading.uses, loading.held
        blocks = [_attached(use, held) for use in uses]
        self._parts.cache.used(uses)
        started = loading.started
        try:
            position = self._attached_at(job, blocks)
        except IncompatibleCacheError as error:
            # Right always: what cannot be continued is computed again.
            self._parts.telemetry.warning("blocks_not_attached", error=str(error))
            uses, held, started = (), {}, JobStarted(0, 0, MissCause.QUARANTINED)
            position = self._attached_at(job, [])
        self._parts.cache.restored(job.chain, uses, held)
        sequence.restored(position)
        self._jobs.start(job, started)

    def _attached_at(self, job: Job, blocks: list[AttachedBlock]) -> int:
        sequence = job.sequence
        position = sum(block.length for block in blocks)
        self._parts.executor.attach(
            sequence.id,
            sequence.prefill[:position],
            blocks,
            sequence.sampling,
            generated=sequence.generated,
            constraint=job.constraint,
        )
        return position

    def _step(self, plan: StepPlan) -> None:
        started = self._parts.clock.monotonic()
        result = self._parts.executor.run(plan)
        if plan.prefill is not None:
            seconds = self._parts.clock.monotonic() - started
            self._loading.prefilled(len(plan.prefill.tokens), seconds)
        for sampled in result.sampled:
            job = self._jobs.by_id[sampled.sequence]
            self._jobs.guarded(job, partial(self._took, sampled=sampled))
        if plan.prefill is not None:
            job = self._jobs.by_id[plan.prefill.sequence]
            job.sequence.prefilled(len(plan.prefill.tokens))
            self._jobs.guarded(job, partial(self._jobs.scored, scores=result.scored))
            # After the last chunk the first token is awaited; sealing comes once it is out.
            if not plan.prefill.last:
                self._jobs.guarded(job, self._jobs.progress)
                job.context.run(self._jobs.capture, job)

    def _took(self, job: Job, sampled: SampledToken) -> None:
        """A token has come."""
        job.sequence.decoded(sampled.token)
        if self._jobs.show(job, sampled):
            self._jobs.capture(job)

    def _give_way(self, sequence: SequenceId) -> None:
        self._interruptions.give_way(self._jobs.by_id[sequence])
        self._memory.settle()

    def _left(self, job: Job) -> None:
        """A job ends: nothing of it stays, wherever it is."""
        self._waiting.remove(job)
        self._loading.leave(job)
        self._parts.scheduler.leave(job.sequence)
        self._closed()
        try:
            self._parts.executor.release(job.sequence.id)
        except Exception as error:  # noqa: BLE001 - the next step tells if the engine is harmed
            self._parts.telemetry.error("release_failed", error=repr(error))
        self._memory.settle()


def _attached(use: BlockUse, held: dict[PartId, PartHandle]) -> AttachedBlock:
    parts = {part.kind: held[part] for part in use.ids}
    return AttachedBlock(
        full=next(handle for kind, handle in parts.items() if kind.begins),
        length=use.length,
        sliding=parts.get(PartKind.SLIDING),
        state=parts.get(PartKind.STATE),
    )
