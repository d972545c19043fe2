"""The jobs that have not begun, or wait once more, and which of them begins next.

Whose turn it is the scheduler says. A job that needs more memory than there is lets some others
pass, but not for ever. Owned by the engine's thread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from semantic.application.chain import Chain
from semantic.application.engine_job import Job
from semantic.application.fan_out import FanOut
from semantic.application.kv_cache import KvCache
from semantic.application.kv_memory import KvMemory
from semantic.application.scheduler import Scheduler
from semantic.domain.batch_layout import Place
from semantic.domain.ids import SequenceId

_MOST_PASSES = 8
"""Jobs that may begin before one whose turn it was, because there was memory for them only."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A job that can begin, where its row goes, and whom it passes."""

    job: Job
    place: Place
    passed: tuple[Job, ...] = ()


class WaitingJobs:
    """A queue that is not always first in, first out. `jobs` are all that there are."""

    def __init__(
        self,
        scheduler: Scheduler,
        memory: KvMemory,
        cache: KvCache,
        jobs: Mapping[SequenceId, Job],
    ) -> None:
        self._scheduler = scheduler
        self._memory = memory
        self._cache = cache
        self._fan_out = FanOut(cache)
        self._jobs = jobs
        self._waiting: dict[SequenceId, Job] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, job: Job) -> None:
        """Have a job wait for its turn."""
        self._waiting[job.sequence.id] = job

    def again(self, job: Job) -> None:
        """Have a job that was in work wait once more, to go on from what is sealed by then."""
        self._scheduler.remove(job.sequence.id)
        job.sequence.interrupt()
        job.chain = Chain(named=job.chain.named)
        job.loading, job.capture_failed = None, False
        self.add(job)

    def remove(self, job: Job) -> None:
        """It waits no more; others are ignored."""
        self._waiting.pop(job.sequence.id, None)

    def begins(self, ready: Ready) -> None:
        """It waits no more, and whom it passed has been passed."""
        self.remove(ready.job)
        for other in ready.passed:
            other.passed += 1

    def next(self) -> Ready | None:
        """The job that begins now; None if none can."""
        if not self._waiting or not self._scheduler.has_room:
            return None
        passed: list[Job] = []
        for job in self._in_turn():
            if self._fan_out.waits(job):
                continue
            place = self._place(job)
            if place is None:
                if job.passed >= _MOST_PASSES:
                    return None
                passed.append(job)
            elif not self._fan_out.follow(job, self._others(job)):
                return Ready(job, place, tuple(passed))
        return None

    def _place(self, job: Job) -> Place | None:
        """Where its row goes, if there is memory for it and for the blocks that it begins with."""
        sequence, alone = job.sequence, bool(job.strikes)
        place = self._memory.place(sequence, alone=alone)
        if place is None or not len(self._scheduler):
            # With nobody to wait for, it begins with as many blocks as fit.
            return place
        return self._memory.place(
            sequence, alone=alone, restoring=self._cache.restored_bytes(sequence)
        )

    def stuck(self) -> Job | None:
        """With nobody at work: a job that will never have what it needs."""
        if len(self._scheduler) or not self._waiting:
            return None
        return next(iter(self._in_turn()))

    def _in_turn(self) -> Iterable[Job]:
        order = self._scheduler.order(job.sequence for job in self._waiting.values())
        return [self._waiting[sequence.id] for sequence in order]

    def _others(self, job: Job) -> Iterable[Job]:
        return (other for other in self._jobs.values() if other is not job)
