"""Jobs that leave the engine before they have ended: for want of memory, or for a failed step.

Invariant: what was chosen already is shown before, since it cannot be chosen again; a job that
waits once more goes on from its sealed blocks. Owned by the engine's thread.
"""

from semantic.application.engine_job import Job
from semantic.application.prefix_loading import PrefixLoading
from semantic.application.unfinished_jobs import UnfinishedJobs
from semantic.application.waiting_jobs import WaitingJobs
from semantic.domain.errors import EngineError, InvalidRequestError
from semantic.ports.model_executor import ModelExecutor
from semantic.ports.telemetry import Telemetry

_MOST_STRIKES = 2
"""Steps that fail with a job in them before it is given up: it is tried again once, by itself."""


class Interruptions:
    """Takes jobs out of the engine, to have them wait once more."""

    def __init__(
        self,
        executor: ModelExecutor,
        telemetry: Telemetry,
        jobs: UnfinishedJobs,
        waiting: WaitingJobs,
        loading: PrefixLoading,
    ) -> None:
        self._executor = executor
        self._telemetry = telemetry
        self._jobs = jobs
        self._waiting = waiting
        self._loading = loading

    def give_way(self, job: Job) -> None:
        """Take a job out of work, keeping what it computed; it goes on when there is room."""
        job.context.run(
            self._telemetry.info,
            "sequence_preempted",
            sequence=job.sequence.id,
            computed=job.sequence.num_computed,
        )
        self._loading.leave(job)
        if job.sequence.num_computed:
            # Memory is short: what is only there would be the first to go.
            named, job.chain.named = job.chain.named, True
            job.context.run(self._jobs.capture, job, end=True)
            job.chain.named = named
        self._jobs.guarded(job, self._interrupt)

    def recover(self, error: Exception) -> None:
        """A step failed: the engine's state is unknown, so all that were in it leave it.

        They go on from their sealed blocks. Those in whose part of the step it was do so alone,
        and if it happens with them again they end: nobody fails for another. Jobs that only wait,
        or wait for blocks, were not in the engine.

        Raises:
            Exception: whatever the engine raises that cannot be reset either; all that were in it
                have failed then.
        """
        self._telemetry.error("step_failed", error=repr(error))
        try:
            self._executor.reset()
        except Exception:
            self._jobs.fail(self._jobs.in_engine(), error)
            raise
        suspects = error.suspects if isinstance(error, EngineError) else ()
        # What was asked for does not get better by being tried again.
        asked = error.__cause__ if isinstance(error.__cause__, InvalidRequestError) else None
        for job in self._jobs.in_engine():
            suspected = not suspects or job.sequence.id in suspects
            job.strikes += suspected
            if job.strikes >= _MOST_STRIKES or (asked and suspected):
                self._jobs.fail((job,), asked or error)
            else:
                self._waiting.again(job)

    def _interrupt(self, job: Job) -> None:
        """Out of the engine, with what has been chosen already: it cannot be chosen again."""
        if (chosen := self._executor.chosen(job.sequence.id)) is not None:
            job.sequence.chose(chosen.token)
            if not self._jobs.show(job, chosen):
                return
        self._executor.release(job.sequence.id)
        self._waiting.again(job)
