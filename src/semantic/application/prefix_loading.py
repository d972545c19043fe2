"""Getting the KV that prompts begin with: from memory, and from the disk if that is the faster way.

Loads take turns: the bytes of one are promised before it is read, and those of all that are read
never exceed what memory may hold of blocks, unless one alone does. Nobody waits for a disk that
hangs: after some silence what has come is used, and the rest recomputed. A part that several
prompts begin with is read once. Owned by the engine's thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from semantic.application.block_reader import BlockReader
from semantic.application.disk_threads import SILENCE_S
from semantic.application.engine_job import Job, Loading
from semantic.application.kv_cache import KvCache
from semantic.application.rates import Rate
from semantic.domain.block import PartId, StoredPart
from semantic.domain.ids import Namespace, SequenceId
from semantic.domain.prefix_index import BlockUse
from semantic.domain.restore_choice import Pace, fastest
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry

_SILENCE_S_A_TOKEN = 0.1 / 1000
"""So much longer than `SILENCE_S` the disk may be silent for each token (HiCache's figure). One
that is slow but delivers is not given up for that: rates decide, and the timeout."""

_LEAST_CHUNK = 64
"""Tokens of a step of prefill from which a rate is learnt: smaller ones are no measure of it."""


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
        self._reads: dict[PartId, int] = {}
        self._given_up: set[PartId] = set()
        self._heard_at = 0.0
        self._prefill = Rate(lasting=True)
        self._latency = Rate()

    def prefilled(self, num_tokens: int, seconds: float) -> None:
        """A step has computed so many tokens of a prompt."""
        if num_tokens >= _LEAST_CHUNK:
            self._prefill.count(num_tokens, seconds, self._parts.clock.monotonic())

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
        if part not in self._reads:
            return
        self._done_with(part)
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
            under_way = self._leave(job)
            self._given_up.update(under_way)
            self._parts.reader.give_up(under_way, before=max(asked, self._heard_at))
            self._guarded(job, self._attach_what_came)
        if late:
            self._next_turns()

    def leave(self, job: Job) -> None:
        """A job ends without its blocks."""
        if job.sequence.id in self._jobs:
            self._leave(job)
            self._next_turns()

    def _plan(self, job: Job, loading: Loading) -> None:
        """Decide how to begin, and line up for what has to be read for it."""
        cache = self._parts.cache
        uses = cache.match(job.sequence.prompt, job.sequence.tenant, self._obtainable(loading))
        for part in (part for use in uses for part in use.ids if part not in loading.held):
            if (handle := cache.parts.hot(part)) is not None:
                loading.held[part] = handle
        uses = self._worth_restoring(job, uses, loading)
        cold = [part for use in uses for part in use.ids if part not in loading.held]
        loading.uses, loading.failed, loading.begun = uses, False, None
        loading.missing = {part: cache.nbytes(part) for part in cold}
        loading.nbytes = sum(loading.missing.values())
        if not cold:
            self._attach(job, loading)
            return
        self._jobs[job.sequence.id] = job
        self._next_turns()

    def _obtainable(self, loading: Loading) -> Callable[[PartId], bool]:
        """Whether a part can be had: of a disk that hangs only what is in memory."""
        cache = self._parts.cache
        hangs = self._parts.reader.hangs

        def obtainable(part: PartId) -> bool:
            if part in loading.held:
                return True
            if hangs or part in self._given_up:
                return cache.parts.is_hot(part)
            return part in cache.parts.index

        return obtainable

    def _worth_restoring(
        self, job: Job, uses: tuple[BlockUse, ...], loading: Loading
    ) -> tuple[BlockUse, ...]:
        """As much of the chain as is restored faster than recomputed."""
        cold = any(part not in loading.held for use in uses for part in use.ids)
        pace = self._pace() if cold and not self._limits.always else None
        if pace is None:
            return uses
        cache, obtainable = self._parts.cache, self._obtainable(loading)

        def to_read(part: PartId) -> int:
            return 0 if part in loading.held or cache.parts.is_hot(part) else cache.nbytes(part)

        found = cache.options(uses, obtainable, to_read)
        num_tokens = job.sequence.num_prompt
        best = fastest(found, num_tokens, pace)
        if best is found[0]:
            return uses
        self._parts.telemetry.info(
            "recomputing_is_faster",
            sequence=job.sequence.id,
            known=found[0].position,
            restored=best.position,
            seconds=round(best.seconds(num_tokens, pace), 3),
            instead_of=round(found[0].seconds(num_tokens, pace), 3),
        )
        beginning = job.sequence.prompt[: best.position + 1]
        return cache.match(beginning, job.sequence.tenant, obtainable)

    def _pace(self) -> Pace | None:
        """What has been measured; None until both ways have been gone."""
        now = self._parts.clock.monotonic()
        reading, prefill = self._parts.reader.pace(), self._prefill.per_second(now)
        if reading is None or prefill is None:
            return None
        latency_s = self._latency.per_second(now) or 0.0
        return Pace(reading.bytes_a_second, prefill, latency_s, reading.bytes_ahead)

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
            self._guarded(job, partial(self._read, loading=loading))

    def _read(self, job: Job, loading: Loading) -> None:
        """Have read what nobody else has had read meanwhile."""
        cache = self._parts.cache
        loading.begun = self._parts.clock.monotonic()
        for part in list(loading.missing):
            if (handle := cache.parts.hot(part)) is not None:
                loading.held[part] = handle
                del loading.missing[part]
        wanted = {part: n for part, n in loading.missing.items() if part not in self._reads}
        self._reads |= wanted
        cache.parts.reserve(sum(wanted.values()))
        self._parts.reader.read(self._parts.namespace, wanted, self._parts.deliver)
        self._go_on(job, loading)

    def _take_in(self, job: Job, loading: Loading, part: PartId, found: StoredPart | None) -> None:
        """Import a part at once: the others are still being read meanwhile."""
        position = 0
        for use in loading.uses:
            if use.key == part.key:
                expected = job.sequence.prompt[position : position + use.length]
                handle = self._parts.cache.parts.hot(part) if found else None
                handle = handle or self._parts.cache.adopt(part, expected, found)
                if handle is not None:
                    loading.held[part] = handle
                loading.failed |= handle is None
            position += use.length

    def _go_on(self, job: Job, loading: Loading) -> None:
        """If all parts have come: attach them, or if one was bad try what is left."""
        if loading.missing or self._jobs.pop(job.sequence.id, None) is None:
            return
        if loading.failed:
            self._guarded(job, partial(self._plan, loading=loading))
            return
        self._learn_latency(loading)
        self._guarded(job, lambda job: self._attach(job, loading))

    def _learn_latency(self, loading: Loading) -> None:
        """What a load took beside reading."""
        reading = self._parts.reader.pace()
        if reading is None or loading.begun is None:
            return
        now = self._parts.clock.monotonic()
        besides = now - loading.begun - loading.nbytes / reading.bytes_a_second
        self._latency.count(max(0.0, besides), 1, now)

    def _attach_what_came(self, job: Job) -> None:
        """Time is up: make do with the parts that are there."""
        if (loading := job.loading) is not None:
            sequence, there = job.sequence, loading.held.__contains__
            loading.uses = self._parts.cache.match(sequence.prompt, sequence.tenant, there)
            self._attach(job, loading)

    def _leave(self, job: Job) -> tuple[PartId, ...]:
        """Wait for a job's parts no more; return those that are being read for it alone."""
        del self._jobs[job.sequence.id]
        missing = job.loading.missing if job.loading else {}
        others = [one.loading for one in self._jobs.values() if one.loading]
        alone = [
            part
            for part in missing
            if part in self._reads and not any(part in one.missing for one in others)
        ]
        withdrawn = self._parts.reader.withdraw(alone)
        for part in withdrawn:
            self._done_with(part)
        return tuple(part for part in alone if part in self._reads)

    def _done_with(self, part: PartId) -> None:
        self._parts.cache.parts.unreserve(self._reads.pop(part))
        self._given_up.discard(part)

    def _deadline(self, job: Job) -> float:
        loading = job.loading
        if loading is None:
            return 0.0
        silence_s = SILENCE_S + loading.num_tokens * _SILENCE_S_A_TOKEN
        heard_at = max(loading.asked, self._heard_at)
        return min(loading.asked + self._limits.timeout_s, heard_at + silence_s)
