"""The jobs that were accepted and have not ended: what is told of them, and their end.

Invariant: every job gets `JobStarted` first and exactly one `JobEnded` last, or else one
`JobFailed`, whatever happens; what it computed is captured before that where it is possible. What
is done for a job is done in its context, and fails no other. Where a job is meanwhile is not known
here. Owned by the engine's thread.
"""

from collections.abc import Callable, Iterable

from semantic.application.engine_job import Job, JobFailed, JobProgress, JobStarted
from semantic.application.kv_cache import KvCache
from semantic.domain.chat import FinishReason
from semantic.domain.errors import EngineError, SemanticError
from semantic.domain.ids import SequenceId
from semantic.domain.sampling import TokenLogprobs
from semantic.domain.sequence import SequenceState
from semantic.domain.step_plan import SampledToken
from semantic.ports.telemetry import Telemetry

_IN_ENGINE = (SequenceState.PREFILL, SequenceState.DECODE)


class UnfinishedJobs:
    """All jobs, `by_id`. `left` is called with each that ends, before that is told."""

    def __init__(self, cache: KvCache, telemetry: Telemetry, left: Callable[[Job], None]) -> None:
        self._cache = cache
        self._telemetry = telemetry
        self._left = left
        self._entered: set[SequenceId] = set()
        self.by_id: dict[SequenceId, Job] = {}

    def add(self, job: Job) -> None:
        """A job has been accepted."""
        self.by_id[job.sequence.id] = job

    def in_engine(self) -> list[Job]:
        """Those that the engine knows; the others wait, or wait for blocks."""
        return [job for job in self.by_id.values() if job.sequence.state in _IN_ENGINE]

    @staticmethod
    def start(job: Job, started: JobStarted) -> None:
        """Tell that prefill begins, unless that has been told."""
        if not job.started:
            job.started = True
            job.emit(started)

    @staticmethod
    def progress(job: Job) -> None:
        """Tell how much of the prompt is computed."""
        sequence = job.sequence
        if job.told < sequence.num_computed < sequence.num_prompt:  # once told, it never falls
            job.told = sequence.num_computed
            job.emit(JobProgress(job.told, sequence.num_prompt))

    @staticmethod
    def scored(job: Job, scores: tuple[TokenLogprobs, ...]) -> None:
        """A chunk's tokens have been scored, if its job asks for that; tell it with the last."""
        if job.scores_prompt and (told := job.scored_prompt(scores)):
            job.emit(told)

    def show(self, job: Job, sampled: SampledToken) -> bool:
        """Show a token; whether the job goes on. If it was the last, the job has ended."""
        for told in job.took(sampled):
            job.emit(told)
        if sampled.token in job.stop_tokens or job.text.stopped:
            self.end(job, FinishReason.STOP)
        elif job.sequence.remaining_answer <= 0:
            self.end(job, FinishReason.LENGTH)
        return job.sequence.state is not SequenceState.FINISHED

    def capture(self, job: Job, *, end: bool = False) -> None:
        """Keep what has been computed. If that fails the answer goes on without it."""
        if job.capture_failed and not end:
            return
        capture = self._cache.capture_end if end else self._cache.capture
        try:
            capture(job.sequence, job.chain)
        except Exception as error:  # noqa: BLE001 - memory is worth less than the answer
            job.capture_failed = True
            self._telemetry.error("capture_failed", error=repr(error))

    def end(self, job: Job, reason: FinishReason) -> None:
        """Keep all that was computed, and close the job."""
        self.start(job, JobStarted(0))
        for rest in job.finish(cut=reason is not FinishReason.STOP):
            job.emit(rest)
        if job.sequence.num_computed:
            self.capture(job, end=True)
        job.sequence.move(SequenceState.FINISHED)
        self._forget(job)
        job.emit(job.ended(reason))

    def fail(self, jobs: Iterable[Job], error: Exception) -> None:
        """End jobs with an error, and keep nothing: their state in the engine is unknown."""
        for job in tuple(jobs):
            job.context.run(self._fail, job, error)

    def guarded(self, job: Job, work: Callable[[Job], None]) -> None:
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
            self._telemetry.error("request_failed", error=repr(error))
            self._fail(job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        self._forget(job)
        if not isinstance(error, SemanticError):
            error = EngineError(f"internal error: {error}")
        try:
            job.emit(JobFailed(error))
        except Exception as broken:  # noqa: BLE001 - one listener must not cost the others theirs
            self._telemetry.error("listener_failed", error=repr(broken))

    def _forget(self, job: Job) -> None:
        if self.by_id.pop(job.sequence.id, None) is None:
            return
        if job.sequence.state is not SequenceState.FINISHED:
            job.sequence.move(SequenceState.FINISHED)
        self._left(job)
