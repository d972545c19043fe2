"""All that happens to requests inside the engine, one turn at a time, on one thread.

    accept ──> match ──> load ──> attach ──> step, step, ... ──> seal ──> end

Invariant: every accepted job gets `JobStarted` first and exactly one `JobEnded` last, or else one
`JobFailed`, whatever happens; what it computed is captured before that where it is possible.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from semantic.application.block_reader import BlockReader
from semantic.application.engine_job import Job, JobFailed, JobStarted, Loading
from semantic.application.kv_cache import KvCache
from semantic.application.prefix_loading import LoadingLimits, LoadingParts, PrefixLoading
from semantic.application.scheduler import Scheduler
from semantic.domain.block import PartId, PartKind, StoredPart
from semantic.domain.chat import FinishReason
from semantic.domain.errors import EngineError, SemanticError
from semantic.domain.ids import SequenceId
from semantic.domain.lineage import Lineage
from semantic.domain.prefix_index import BlockUse
from semantic.domain.sequence import SequenceState
from semantic.domain.step_plan import SampledToken, StepPlan
from semantic.ports.clock import Clock
from semantic.ports.model_executor import AttachedBlock, ModelExecutor, PartHandle
from semantic.ports.telemetry import Telemetry


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
        self._waiting: deque[Job] = deque()
        self._entered: set[SequenceId] = set()

    @property
    def idle(self) -> bool:
        """Whether nothing can be done until a message comes."""
        startable = bool(self._waiting) and self._parts.scheduler.has_room
        return not startable and self._parts.scheduler.plan().empty

    def patience(self) -> float | None:
        """Seconds until reading is given up; None if nothing is being read."""
        return self._loading.patience()

    def accept(self, job: Job) -> None:
        """Queue a job."""
        self._jobs[job.sequence.id] = job
        self._waiting.append(job)

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
        self._loading.expire()
        while self._waiting and self._parts.scheduler.has_room:
            self._guarded(self._waiting.popleft(), self._admit)
        plan = self._parts.scheduler.plan()
        if not plan.empty:
            try:
                self._step(plan)
            except Exception as error:  # noqa: BLE001 - whatever it was, no request may hang
                self._recover(error)

    def _admit(self, job: Job) -> None:
        """Find what is known of the prompt; begin, or begin to read."""
        sequence = job.sequence
        self._parts.scheduler.add(sequence)
        sequence.move(SequenceState.LOADING)
        sequence.marks = self._parts.cache.marks(sequence)
        self._loading.begin(job)

    def _attach(self, job: Job, loading: Loading) -> None:
        """The parts are there: attach the blocks, in order."""
        job.loading = None
        sequence = job.sequence
        blocks = [_attached(use, loading.held) for use in loading.uses]
        self._parts.cache.used(loading.uses)
        position = sum(block.length for block in blocks)
        self._parts.executor.attach(
            sequence.id, sequence.prompt[:position], blocks, sequence.sampling
        )
        self._parts.cache.restored(job.chain, loading.uses, loading.held)
        sequence.restored(position)
        job.emit(JobStarted(position))

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
                job.context.run(self._capture, job)

    def _took(self, job: Job, sampled: SampledToken) -> None:
        """A token has come: show it, and decide whether it was the last."""
        job.sequence.decoded(sampled.token)
        if told := job.took(sampled):
            job.emit(told)
        if sampled.token in job.stop_tokens or job.text.stopped:
            self._end(job, FinishReason.STOP)
        elif len(job.sequence.generated) >= job.sequence.max_tokens:
            self._end(job, FinishReason.LENGTH)
        else:
            self._capture(job)

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
        if job.sequence.state in (SequenceState.WAITING, SequenceState.LOADING):
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
        if job in self._waiting:
            self._waiting.remove(job)
        self._loading.leave(job)
        self._parts.scheduler.remove(sequence)
        self._closed()
        try:
            self._parts.executor.release(sequence)
        except Exception as error:  # noqa: BLE001 - the next step tells if the engine is harmed
            self._parts.telemetry.error("release_failed", error=repr(error))

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

    def _recover(self, error: Exception) -> None:
        """A step failed: the engine's state is unknown, so all that were in it end here.

        Jobs that only wait, or wait for blocks, are not in the engine: they go on.
        """
        self._parts.telemetry.error("step_failed", error=repr(error))
        in_engine = (SequenceState.PREFILL, SequenceState.DECODE)
        try:
            self._parts.executor.reset()
        finally:
            for job in list(self._jobs.values()):
                if job.sequence.state in in_engine:
                    job.context.run(self._fail, job, error)


def _attached(use: BlockUse, held: dict[PartId, PartHandle]) -> AttachedBlock:
    parts = {part.kind: held[part] for part in use.ids}
    return AttachedBlock(
        full=next(handle for kind, handle in parts.items() if kind.begins),
        length=use.length,
        sliding=parts.get(PartKind.SLIDING),
        state=parts.get(PartKind.STATE),
    )
