"""Getting the KV that prompts begin with: the jobs that wait for it, whose turn it is, how long.

Loads take turns: the bytes of one are promised before it is read, and those of all that are read
never exceed what memory may hold of blocks, unless one alone does; where that is more than there is
beside what runs, the rest is computed. Nobody waits for a disk that hangs: after some silence what
has come is used, and the rest recomputed. A part that several prompts begin with is read once. How
much of a prompt is worth reading is known beside this module. Owned by the engine's thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from semantic.application.block_reader import BlockReader
from semantic.application.disk_threads import SILENCE_S
from semantic.application.engine_job import Job, Loading
from semantic.application.kv_cache import KvCache
from semantic.application.load_memory import LoadMemory
from semantic.application.prefix_choice import PrefixChoice
from semantic.domain.block import PartId, StoredPart
from semantic.domain.ids import Namespace, SequenceId
from semantic.domain.reuse import MissCause
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry

_SILENCE_S_A_TOKEN = 0.1 / 1000
"""So much longer than `SILENCE_S` the disk may be silent for each token (HiCache's figure). One
that is slow but delivers is not given up for that: rates decide, and the timeout."""


@dataclass(frozen=True, slots=True)
class LoadingLimits:
    """`timeout_s`: longer than that no request waits for the disk, however busy that is.

    With `always`, what is on disk is restored also where recomputing it would be faster.
    """

    timeout_s: float
    always: bool = False


@dataclass(frozen=True, slots=True)
class LoadingParts:
    """What it is done with. `deliver` brings what was read to `arrived`, on the engine's thread."""

    namespace: Namespace
    cache: KvCache
    reader: BlockReader
    clock: Clock
    telemetry: Telemetry
    deliver: Callable[[PartId, StoredPart | None], None]


class PrefixLoading:
    """The jobs that wait for blocks.

    `attach` is called with a job and what it can begin with; `guarded` does something for a job in
    its context, so that a failure is only that job's.
    """

    def __init__(
        self,
        parts: LoadingParts,
        limits: LoadingLimits,
        attach: Callable[[Job, Loading], None],
        guarded: Callable[[Job, Callable[[Job], None]], None],
    ) -> None:
        self._parts = parts
        self._limits = limits
        self._attach = attach
        self._guarded = guarded
        self._jobs: dict[SequenceId, Job] = {}
        self._heard_at = 0.0
        self._memory = LoadMemory(parts.cache)
        self._choice = PrefixChoice(
            parts.cache,
            self._memory,
            parts.reader,
            parts.clock,
            parts.telemetry,
            always=limits.always,
        )

    def prefilled(self, num_tokens: int, seconds: float) -> None:
        """A step has computed so many tokens of a prompt."""
        self._choice.prefilled(num_tokens, seconds)

    def patience(self) -> float | None:
        """Seconds until somebody has waited long enough; None if nobody waits."""
        if not self._jobs:
            return None
        now = self._parts.clock.monotonic()
        return max(0.0, min(self._deadline(job) for job in self._jobs.values()) - now)

    def begin(self, job: Job) -> None:
        """Find what is known of the prompt; attach it, or have it read before."""
        job.loading = Loading(self._parts.clock.monotonic())
        self._plan(job, job.loading)

    def arrived(self, part: PartId, found: StoredPart | None) -> None:
        """A part has been read, or could not be."""
        if not self._memory.is_read(part):
            return
        self._memory.done_with(part)
        self._heard_at = self._parts.clock.monotonic()
        for job in list(self._jobs.values()):
            loading = job.loading
            if loading is None or part not in loading.missing:
                continue
            del loading.missing[part]
            self._guarded(job, partial(self._take_in, loading=loading, part=part, found=found))
            if loading.failed:
                found = None  # it is known no more: nobody else takes it
            self._go_on(job, loading)
        self._next_turns()

    def expire(self) -> None:
        """Give up what has not come in time; those jobs begin with what is there."""
        now = self._parts.clock.monotonic()
        late = [job for job in self._jobs.values() if self._deadline(job) <= now]
        for job in late:
            job.context.run(
                self._parts.telemetry.warning, "read_timed_out", sequence=job.sequence.id
            )
            asked = job.loading.asked if job.loading else now
            under_way = self._leave(job, keep=True)
            self._memory.give_up(under_way)
            self._parts.reader.give_up(under_way, before=max(asked, self._heard_at))
            self._guarded(job, self._attach_what_came)
        if late:
            self._next_turns()

    def leave(self, job: Job) -> None:
        """A job ends without its blocks."""
        if job.sequence.id in self._jobs:
            self._leave(job)
            self._next_turns()
        elif job.loading:
            self._memory.let_go(job.loading)

    def _plan(self, job: Job, loading: Loading) -> None:
        """Decide how to begin, and line up for what has to be read for it."""
        uses = self._choice.known(job, loading)
        for part in (part for use in uses for part in use.ids):
            self._memory.hold(loading, part)
        uses = self._choice.worthwhile(job, uses, loading)
        cold = [part for use in uses for part in use.ids if part not in loading.held]
        loading.uses, loading.failed, loading.begun = uses, False, None
        loading.missing = {part: self._parts.cache.nbytes(part) for part in cold}
        loading.cold.update(cold)
        loading.nbytes = sum(loading.missing.values())
        if not cold:
            self._attach_held(job, loading)
            return
        self._jobs[job.sequence.id] = job
        self._next_turns()

    def _attach_held(self, job: Job, loading: Loading) -> None:
        """The parts are there: memory need not hold them any longer than this takes."""
        try:
            self._attach(job, loading)
        finally:
            self._memory.let_go(loading)

    def _next_turns(self) -> None:
        """Begin to read for those whose turn it is, in the order in which they came."""
        for job in list(self._jobs.values()):
            loading = job.loading
            if loading is None or loading.begun is not None:
                continue
            promised = sum(
                one.loading.nbytes
                for one in self._jobs.values()
                if one.loading and one.loading.begun is not None
            )
            if promised and promised + loading.nbytes > self._parts.cache.hot_bytes:
                return
            if self._memory.has_room(loading.nbytes):
                self._guarded(job, partial(self._read, loading=loading))
            elif self._memory.bytes_under_way:
                return
            else:
                # Nobody reads, so waiting would not help: the rest is computed.
                self._guarded(job, partial(self._plan_less, loading=loading))

    def _plan_less(self, job: Job, loading: Loading) -> None:
        pool = self._parts.cache.parts.pool
        loading.most_bytes = pool.free + pool.cached
        del self._jobs[job.sequence.id]
        self._plan(job, loading)

    def _read(self, job: Job, loading: Loading) -> None:
        """Have read what nobody else has had read meanwhile."""
        loading.begun = self._parts.clock.monotonic()
        wanted = self._memory.reserve(loading)
        self._parts.reader.read(self._parts.namespace, wanted, self._parts.deliver)
        self._go_on(job, loading)

    def _take_in(self, job: Job, loading: Loading, part: PartId, found: StoredPart | None) -> None:
        """Import a part at once: the others are still being read meanwhile."""
        position = 0
        for use in loading.uses:
            if use.key == part.key:
                expected = job.sequence.prefill[position : position + use.length]
                if not (found and self._memory.hold(loading, part)):
                    self._memory.adopt(loading, part, expected, found)
                if part not in loading.held:
                    loading.failed, loading.obstacle = True, MissCause.QUARANTINED
            position += use.length

    def _go_on(self, job: Job, loading: Loading) -> None:
        """If all parts have come: attach them, or if one was bad try what is left."""
        if loading.missing or self._jobs.pop(job.sequence.id, None) is None:
            return
        if loading.failed:
            self._guarded(job, partial(self._plan, loading=loading))
            return
        self._choice.loaded(loading)
        self._guarded(job, lambda job: self._attach_held(job, loading))

    def _attach_what_came(self, job: Job) -> None:
        """Time is up: make do with the parts that are there."""
        if (loading := job.loading) is not None:
            loading.uses = self._choice.here(job, loading)
            loading.obstacle = MissCause.LATE
            self._attach_held(job, loading)

    def _leave(self, job: Job, *, keep: bool = False) -> tuple[PartId, ...]:
        """Wait for a job's parts no more; return those that are being read for it alone.

        What has come for it is let go, unless it is to `keep` that.
        """
        del self._jobs[job.sequence.id]
        missing = job.loading.missing if job.loading else {}
        others = [one.loading for one in self._jobs.values() if one.loading]
        alone = [
            part
            for part in missing
            if self._memory.is_read(part) and not any(part in one.missing for one in others)
        ]
        withdrawn = self._parts.reader.withdraw(alone)
        for part in withdrawn:
            self._memory.done_with(part)
        if job.loading and not keep:
            self._memory.let_go(job.loading)
        return tuple(part for part in alone if self._memory.is_read(part))

    def _deadline(self, job: Job) -> float:
        loading = job.loading
        if loading is None:
            return 0.0
        silence_s = SILENCE_S + loading.num_tokens * _SILENCE_S_A_TOKEN
        heard_at = max(loading.asked, self._heard_at)
        return min(loading.asked + self._limits.timeout_s, heard_at + silence_s)
