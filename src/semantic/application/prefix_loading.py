"""Getting the KV that prompts begin with: from memory, and from the disk if that is the faster way.

Loads take turns: the bytes of one are promised before it is read, and those of all that are read
never exceed what memory may hold of blocks, unless one alone does; where that is more than there is
beside what runs, the rest is computed. Nobody waits for a disk that
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
from semantic.domain.block_pool import Holder
from semantic.domain.ids import Namespace, SequenceId, TokenId
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
            under_way = self._leave(job, keep=True)
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
        elif job.loading:
            self._let_go(job.loading)

    def _plan(self, job: Job, loading: Loading) -> None:
        """Decide how to begin, and line up for what has to be read for it."""
        cache = self._parts.cache
        uses = cache.match(job.sequence.prefill, job.sequence.tenant, self._obtainable(loading))
        for part in (part for use in uses for part in use.ids):
            self._hold_hot(loading, part)
        uses = self._worth_restoring(job, self._that_fit(job, uses, loading), loading)
        cold = [part for use in uses for part in use.ids if part not in loading.held]
        loading.uses, loading.failed, loading.begun = uses, False, None
        loading.missing = {part: cache.nbytes(part) for part in cold}
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
            self._let_go(loading)

    def _hold_hot(self, loading: Loading, part: PartId) -> bool:
        """Hold a part if it is in memory; whether it is held."""
        if part not in loading.held and (handle := self._parts.cache.parts.hot(part)) is not None:
            self._parts.cache.parts.pin((part,))
            loading.held[part] = handle
        return part in loading.held

    def _let_go(self, loading: Loading) -> None:
        """Nothing is held for a load any more."""
        held, loading.held = tuple(loading.held), {}
        self._parts.cache.parts.unpin(held)

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

    def _that_fit(
        self, job: Job, uses: tuple[BlockUse, ...], loading: Loading
    ) -> tuple[BlockUse, ...]:
        """As much of the chain as there is memory for beside what runs."""
        most = loading.most_bytes
        if most is None:
            return uses
        found = self._parts.cache.options(uses, self._obtainable(loading), self._to_read(loading))
        fitting = next(option for option in found if option.nbytes <= most)
        return self._up_to(job, fitting.position, loading) if fitting is not found[0] else uses

    def _up_to(self, job: Job, position: int, loading: Loading) -> tuple[BlockUse, ...]:
        beginning = job.sequence.prefill[: position + 1]
        return self._parts.cache.match(beginning, job.sequence.tenant, self._obtainable(loading))

    def _to_read(self, loading: Loading) -> Callable[[PartId], int]:
        """The bytes of a part that have to be read."""
        cache = self._parts.cache

        def to_read(part: PartId) -> int:
            return 0 if part in loading.held or cache.parts.is_hot(part) else cache.nbytes(part)

        return to_read

    def _worth_restoring(
        self, job: Job, uses: tuple[BlockUse, ...], loading: Loading
    ) -> tuple[BlockUse, ...]:
        """As much of the chain as is restored faster than recomputed."""
        cold = any(part not in loading.held for use in uses for part in use.ids)
        pace = self._pace() if cold and not self._limits.always else None
        if pace is None:
            return uses
        found = self._parts.cache.options(uses, self._obtainable(loading), self._to_read(loading))
        num_tokens = job.sequence.num_prefill
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
        return self._up_to(job, best.position, loading)

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
        cache = self._parts.cache
        for job in list(self._jobs.values()):
            loading = job.loading
            if loading is None or loading.begun is not None:
                continue
            promised = sum(
                one.loading.nbytes
                for one in self._jobs.values()
                if one.loading and one.loading.begun is not None
            )
            if promised and promised + loading.nbytes > cache.hot_bytes:
                return
            under_way = sum(self._reads.values())
            if cache.parts.can_claim(Holder.READING, under_way + loading.nbytes):
                self._guarded(job, partial(self._read, loading=loading))
            elif under_way:
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
        cache = self._parts.cache
        loading.begun = self._parts.clock.monotonic()
        for part in list(loading.missing):
            if self._hold_hot(loading, part):
                del loading.missing[part]
        wanted = {part: n for part, n in loading.missing.items() if part not in self._reads}
        cache.parts.reserve(sum(wanted.values()))
        self._reads |= wanted
        self._parts.reader.read(self._parts.namespace, wanted, self._parts.deliver)
        self._go_on(job, loading)

    def _take_in(self, job: Job, loading: Loading, part: PartId, found: StoredPart | None) -> None:
        """Import a part at once: the others are still being read meanwhile."""
        position = 0
        for use in loading.uses:
            if use.key == part.key:
                expected = job.sequence.prefill[position : position + use.length]
                if not (found and self._hold_hot(loading, part)):
                    self._adopt(loading, part, expected, found)
                loading.failed |= part not in loading.held
            position += use.length

    def _adopt(
        self,
        loading: Loading,
        part: PartId,
        expected: tuple[TokenId, ...],
        found: StoredPart | None,
    ) -> None:
        cache = self._parts.cache
        # Pinned before it is there: so memory holds it from the beginning.
        cache.parts.pin((part,))
        handle = cache.adopt(part, expected, found)
        if handle is None:
            cache.parts.unpin((part,))
        else:
            loading.held[part] = handle

    def _go_on(self, job: Job, loading: Loading) -> None:
        """If all parts have come: attach them, or if one was bad try what is left."""
        if loading.missing or self._jobs.pop(job.sequence.id, None) is None:
            return
        if loading.failed:
            self._guarded(job, partial(self._plan, loading=loading))
            return
        self._learn_latency(loading)
        self._guarded(job, lambda job: self._attach_held(job, loading))

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
            loading.uses = self._parts.cache.match(sequence.prefill, sequence.tenant, there)
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
            if part in self._reads and not any(part in one.missing for one in others)
        ]
        withdrawn = self._parts.reader.withdraw(alone)
        for part in withdrawn:
            self._done_with(part)
        if job.loading and not keep:
            self._let_go(job.loading)
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
