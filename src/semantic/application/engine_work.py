"""All that happens to requests inside the engine, one turn at a time, on one thread.

    accept ──> match ──> load ──> attach ──> step, step, ... ──> seal ──> end
                 ^                                |
                 └── memory is short, or a step failed

Invariant: every accepted job gets `JobStarted` first and exactly one `JobEnded` last, or else one
`JobFailed`, whatever happens; what it computed is captured before that where it is possible.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from semantic.application.block_reader import BlockReader
from semantic.application.chain import Chain
from semantic.application.engine_job import Job, JobFailed, JobProgress, JobStarted, Loading
from semantic.application.kv_cache import KvCache
from semantic.application.kv_memory import KvMemory
from semantic.application.prefix_loading import LoadingLimits, LoadingParts, PrefixLoading
from semantic.application.scheduler import Scheduler
from semantic.application.waiting_jobs import Ready, WaitingJobs
from semantic.domain.block import PartId, PartKind, StoredPart
from semantic.domain.chat import FinishReason
from semantic.domain.errors import (
    EngineError,
    IncompatibleCacheError,
    PoolExhaustedError,
    SemanticError,
)
from semantic.domain.ids import SequenceId
from semantic.domain.lineage import Lineage
from semantic.domain.prefix_index import BlockUse
from semantic.domain.sequence import SequenceState
from semantic.domain.step_plan import SampledToken, StepPlan
from semantic.ports.clock import Clock
from semantic.ports.model_executor import AttachedBlock, ModelExecutor, PartHandle
from semantic.ports.telemetry import Telemetry

_IN_ENGINE = (SequenceState.PREFILL, SequenceState.DECODE)

_MOST_STRIKES = 2
"""Steps that fail with a job in them before it is given up: it is tried again once, by itself."""

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
            self._guarded,
        )
        self._closed = closed
        self._jobs: dict[SequenceId, Job] = {}
        self._memory = KvMemory(parts.cache, parts.scheduler)
        self._waiting = WaitingJobs(parts.scheduler, self._memory, parts.cache, self._jobs)
        self._entered: set[SequenceId] = set()
        self._turned_at = parts.clock.monotonic()

    @property
    def idle(self) -> bool:
        """Whether nothing can be done until a message comes."""
        if not self._parts.scheduler.plan().empty or self._waiting.next() is not None:
            return False
        return self._waiting.stuck() is None

    @property
    def hurried(self) -> bool:
        """Whether those who decode wait already: what has come can be taken in after a step."""
        if not self._parts.scheduler.decoding:
            return False
        return self._spent() > self._parts.scheduler.pace.target_s * _SHARE_FOR_IMPORT

    def patience(self) -> float | None:
        """Seconds until reading is given up; None if nothing is being read."""
        return self._loading.patience()

    def accept(self, job: Job) -> None:
        """Queue a job."""
        self._jobs[job.sequence.id] = job
        self._parts.scheduler.enter(job.sequence)
        self._waiting.add(job)

    def cancel(self, sequence: SequenceId) -> None:
        """End a job early, keeping what it computed. Unknown ones are ignored."""
        if job := self._jobs.get(sequence):
            self._guarded(job, lambda job: self._end(job, FinishReason.CANCELLED))

    def cancel_all(self) -> None:
        """End all jobs."""
        for sequence in list(self._jobs):
            self.cancel(sequence)

    def fail_all(self, error: Exception) -> None:
        """End all jobs with an error, and keep nothing: the engine's state is unknown."""
        for job in list(self._jobs.values()):
            job.context.run(self._fail, job, error)

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
            self._guarded(ready.job, partial(self._admit, ready=ready))
        if (job := self._waiting.stuck()) is not None:
            self._guarded(job, self._refuse)
        try:
            self._memory.grow(lambda sequence: self._give_way(self._jobs[sequence]))
        except PoolExhaustedError as error:
            self._fail_all_in_engine(error)
        plan = self._parts.scheduler.plan(self._spent())
        if not plan.empty:
            try:
                self._step(plan)
            except Exception as error:  # noqa: BLE001 - whatever it was, no request may hang
                self._recover(error)
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
        self._memory.begin(sequence, ready.place, alone=bool(job.strikes))
        sequence.move(SequenceState.LOADING)
        sequence.marks = self._parts.cache.marks(sequence)
        self._loading.begin(job)

    @staticmethod
    def _refuse(_job: Job) -> None:
        """Nothing is in work, and there is no room all the same: it would wait for ever."""
        raise PoolExhaustedError("the memory for KV does not hold this request")

    def _attach(self, job: Job, loading: Loading) -> None:
        """The parts are there: attach the blocks, in order."""
        job.loading = None
        sequence = job.sequence
        uses, held = loading.uses, loading.held
        blocks = [_attached(use, held) for use in uses]
        self._parts.cache.used(uses)
        try:
            position = self._attached_at(job, blocks)
        except IncompatibleCacheError as error:
            # Right always: what cannot be continued is computed again.
            self._parts.telemetry.warning("blocks_not_attached", error=str(error))
            uses, held = (), {}
            position = self._attached_at(job, [])
        self._parts.cache.restored(job.chain, uses, held)
        sequence.restored(position)
        if not job.started:
            job.started = True
            job.emit(JobStarted(position))

    def _attached_at(self, job: Job, blocks: list[AttachedBlock]) -> int:
        sequence = job.sequence
        position = sum(block.length for block in blocks)
        self._parts.executor.attach(
            sequence.id,
            sequence.prefill[:position],
            blocks,
            sequence.sampling,
            drawn=len(sequence.generated),
        )
        return position

    def _step(self, plan: StepPlan) -> None:
        started = self._parts.clock.monotonic()
        result = self._parts.executor.run(plan)
        if plan.prefill is not None:
            seconds = self._parts.clock.monotonic() - started
            self._loading.prefilled(len(plan.prefill.tokens), seconds)
        for sampled in result.sampled:
            job = self._jobs[sampled.sequence]
            self._guarded(job, partial(self._took, sampled=sampled))
        if plan.prefill is not None:
            job = self._jobs[plan.prefill.sequence]
            job.sequence.prefilled(len(plan.prefill.tokens))
            # After the last chunk the first token is awaited; sealing comes once it is out.
            if not plan.prefill.last:
                self._guarded(job, _tell_progress)
                job.context.run(self._capture, job)

    def _took(self, job: Job, sampled: SampledToken) -> None:
        """A token has come: show it, and decide whether it was the last."""
        job.sequence.decoded(sampled.token)
        if (reason := self._shown(job, sampled)) is None:
            self._capture(job)
        else:
            self._end(job, reason)

    @staticmethod
    def _shown(job: Job, sampled: SampledToken) -> FinishReason | None:
        """Show a token; why it was the last, if it was."""
        if told := job.took(sampled):
            job.emit(told)
        if sampled.token in job.stop_tokens or job.text.stopped:
            return FinishReason.STOP
        return None if job.sequence.remaining_answer > 0 else FinishReason.LENGTH

    def _capture(self, job: Job, *, end: bool = False) -> None:
        """Keep what has been computed. If that fails the answer goes on without it."""
        cache = self._parts.cache
        if job.capture_failed and not end:
            return
        try:
            (cache.capture_end if end else cache.capture)(job.sequence, job.chain)
        except Exception as error:  # noqa: BLE001 - memory is worth less than the answer
            job.capture_failed = True
            self._parts.telemetry.error("capture_failed", error=repr(error))

    def _end(self, job: Job, reason: FinishReason) -> None:
        if not job.started:
            job.started = True
            job.emit(JobStarted(0))
        if rest := job.finish():
            job.emit(rest)
        if job.sequence.num_computed:
            self._capture(job, end=True)
        job.sequence.move(SequenceState.FINISHED)
        self._forget(job)
        job.emit(job.ended(reason))

    def _fail(self, job: Job, error: Exception) -> None:
        self._forget(job)
        if not isinstance(error, SemanticError):
            error = EngineError(f"internal error: {error}")
        try:
            job.emit(JobFailed(error))
        except Exception as broken:  # noqa: BLE001 - one listener must not cost the others theirs
            self._parts.telemetry.error("listener_failed", error=repr(broken))

    def _forget(self, job: Job) -> None:
        sequence = job.sequence.id
        if self._jobs.pop(sequence, None) is None:
            return
        if job.sequence.state is not SequenceState.FINISHED:
            job.sequence.move(SequenceState.FINISHED)
        self._waiting.remove(job)
        self._loading.leave(job)
        self._parts.scheduler.leave(job.sequence)
        self._closed()
        try:
            self._parts.executor.release(sequence)
        except Exception as error:  # noqa: BLE001 - the next step tells if the engine is harmed
            self._parts.telemetry.error("release_failed", error=repr(error))
        self._memory.settle()

    def _guarded(self, job: Job, work: Callable[[Job], None]) -> None:
        """Do something for one job, in its context; if it fails, only that job does."""
        if job.sequence.id in self._entered:
            self._tried(job, work)  # from within: a context is entered once
            return
        self._entered.add(job.sequence.id)
        try:
            job.context.run(self._tried, job, work)
        finally:
            self._entered.discard(job.sequence.id)

    def _tried(self, job: Job, work: Callable[[Job], None]) -> None:
        try:
            work(job)
        except Exception as error:  # noqa: BLE001 - no request may hang for another's failure
            self._parts.telemetry.error("request_failed", error=repr(error))
            self._fail(job, error)

    def _give_way(self, job: Job) -> None:
        """Take a job out of work, keeping what it computed; it goes on when there is room."""
        job.context.run(
            self._parts.telemetry.info,
            "sequence_preempted",
            sequence=job.sequence.id,
            computed=job.sequence.num_computed,
        )
        self._loading.leave(job)
        if job.sequence.num_computed:
            # Memory is short: what is only there would be the first to go.
            named, job.chain.named = job.chain.named, True
            job.context.run(self._capture, job, end=True)
            job.chain.named = named
        self._guarded(job, self._interrupt)
        self._memory.settle()

    def _interrupt(self, job: Job) -> None:
        """Out of the engine, with what has been chosen already: it cannot be chosen again."""
        if (chosen := self._parts.executor.chosen(job.sequence.id)) is not None:
            job.sequence.chose(chosen.token)
            if (reason := self._shown(job, chosen)) is not None:
                self._end(job, reason)
                return
        self._parts.executor.release(job.sequence.id)
        self._wait_once_more(job)

    def _wait_once_more(self, job: Job) -> None:
        self._parts.scheduler.remove(job.sequence.id)
        job.sequence.interrupt()
        job.chain = Chain(named=job.chain.named)
        job.loading, job.capture_failed = None, False
        self._waiting.add(job)

    def _recover(self, error: Exception) -> None:
        """A step failed: the engine's state is unknown, so all that were in it leave it.

        They go on from their sealed blocks. Those in whose part of the step it was do so alone,
        and if it happens with them again they end: nobody fails for another. Jobs that only wait,
        or wait for blocks, were not in the engine.
        """
        self._parts.telemetry.error("step_failed", error=repr(error))
        try:
            self._parts.executor.reset()
        except Exception:
            self._fail_all_in_engine(error)
            raise
        suspects = error.suspects if isinstance(error, EngineError) else ()
        for job in [job for job in self._jobs.values() if job.sequence.state in _IN_ENGINE]:
            job.strikes += not suspects or job.sequence.id in suspects
            if job.strikes >= _MOST_STRIKES:
                job.context.run(self._fail, job, error)
            else:
                self._wait_once_more(job)
        self._memory.settle()

    def _fail_all_in_engine(self, error: Exception) -> None:
        for job in [job for job in self._jobs.values() if job.sequence.state in _IN_ENGINE]:
            job.context.run(self._fail, job, error)


def _tell_progress(job: Job) -> None:
    sequence = job.sequence
    if not sequence.interrupted:  # once told, it never falls
        job.emit(JobProgress(sequence.num_computed, sequence.num_prompt))


def _attached(use: BlockUse, held: dict[PartId, PartHandle]) -> AttachedBlock:
    parts = {part.kind: held[part] for part in use.ids}
    return AttachedBlock(
        full=next(handle for kind, handle in parts.items() if kind.begins),
        length=use.length,
        sliding=parts.get(PartKind.SLIDING),
        state=parts.get(PartKind.STATE),
    )
