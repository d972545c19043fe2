"""How much of what is known of a prompt is restored: what can be had, fits, and saves time.

Both ways are measured as they are gone: reading, with what a load takes beside it, and prefill.
Until both have been, what is known is restored. Nothing is read or held here. Owned by the engine's
thread.
"""

from collections.abc import Callable

from semantic.application.block_reader import BlockReader
from semantic.application.engine_job import Job, Loading
from semantic.application.kv_cache import KvCache
from semantic.application.load_memory import LoadMemory
from semantic.application.rates import Rate
from semantic.domain.block import PartId
from semantic.domain.prefix_index import BlockUse
from semantic.domain.restore_choice import Pace, fastest
from semantic.domain.reuse import MissCause
from semantic.domain.sequence import Sequence
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry

_LEAST_CHUNK = 64
"""Tokens of a step of prefill from which a rate is learnt: smaller ones are no measure of it."""


class PrefixChoice:
    """Chooses for one model. With `always`, also what recomputing would give faster is restored."""

    def __init__(
        self,
        cache: KvCache,
        memory: LoadMemory,
        reader: BlockReader,
        clock: Clock,
        telemetry: Telemetry,
        *,
        always: bool,
    ) -> None:
        self._cache = cache
        self._memory = memory
        self._reader = reader
        self._clock = clock
        self._telemetry = telemetry
        self._always = always
        self._prefill = Rate(lasting=True)
        self._latency = Rate()

    def prefilled(self, num_tokens: int, seconds: float) -> None:
        """A step has computed so many tokens of a prompt."""
        if num_tokens >= _LEAST_CHUNK:
            self._prefill.count(num_tokens, seconds, self._clock.monotonic())

    def loaded(self, loading: Loading) -> None:
        """All parts of a load have come: learn what it took beside reading."""
        reading = self._reader.pace()
        if reading is None or loading.begun is None:
            return
        now = self._clock.monotonic()
        besides = now - loading.begun - loading.nbytes / reading.bytes_a_second
        self._latency.count(max(0.0, besides), 1, now)

    def known(self, job: Job, loading: Loading) -> tuple[BlockUse, ...]:
        """All of a prompt's beginning that can be had; says what is in the way of more.

        None of one that is to be scored.
        """
        if job.scores_prompt:
            return ()
        sequence = job.sequence
        found = self._cache.match(sequence.prefill, sequence.tenant, self._obtainable(loading))
        if loading.obstacle is None:
            loading.obstacle = self._obstacle(sequence, sum(use.length for use in found))
        return found

    def _obstacle(self, sequence: Sequence, position: int) -> MissCause | None:
        gave_up = self._reader.hangs or self._memory.gave_up
        if gave_up and self._cache.known(sequence) > position:
            return MissCause.LATE
        return MissCause.ALIGNED if self._cache.seen(sequence) > position else None

    def here(self, job: Job, loading: Loading) -> tuple[BlockUse, ...]:
        """As much of it as is held by now."""
        sequence = job.sequence
        return self._cache.match(sequence.prefill, sequence.tenant, loading.held.__contains__)

    def worthwhile(
        self, job: Job, uses: tuple[BlockUse, ...], loading: Loading
    ) -> tuple[BlockUse, ...]:
        """As much of what is known as there is memory for, and is restored faster than computed."""
        return self._worth_restoring(job, self._that_fit(job, uses, loading), loading)

    def _obtainable(self, loading: Loading) -> Callable[[PartId], bool]:
        """Whether a part can be had: of a disk that hangs only what is in memory."""
        cache = self._cache
        hangs = self._reader.hangs

        def obtainable(part: PartId) -> bool:
            if part in loading.held:
                return True
            if hangs or self._memory.is_given_up(part):
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
        found = self._cache.options(uses, self._obtainable(loading), self._to_read(loading))
        fitting = next(option for option in found if option.nbytes <= most)
        if fitting is found[0]:
            return uses
        loading.obstacle = MissCause.NO_ROOM
        return self._up_to(job, fitting.position, loading)

    def _up_to(self, job: Job, position: int, loading: Loading) -> tuple[BlockUse, ...]:
        beginning = job.sequence.prefill[: position + 1]
        return self._cache.match(beginning, job.sequence.tenant, self._obtainable(loading))

    def _to_read(self, loading: Loading) -> Callable[[PartId], int]:
        """The bytes of a part that have to be read."""
        cache = self._cache

        def to_read(part: PartId) -> int:
            return 0 if part in loading.held or cache.parts.is_hot(part) else cache.nbytes(part)

        return to_read

    def _worth_restoring(
        self, job: Job, uses: tuple[BlockUse, ...], loading: Loading
    ) -> tuple[BlockUse, ...]:
        """As much of the chain as is restored faster than recomputed."""
        cold = any(part not in loading.held for use in uses for part in use.ids)
        pace = self._pace() if cold and not self._always else None
        if pace is None:
            return uses
        found = self._cache.options(uses, self._obtainable(loading), self._to_read(loading))
        num_tokens = job.sequence.num_prefill
        best = fastest(found, num_tokens, pace)
        if best is found[0]:
            return uses
        loading.obstacle = MissCause.RECOMPUTED
        self._telemetry.info(
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
        now = self._clock.monotonic()
        reading, prefill = self._reader.pace(), self._prefill.per_second(now)
        if reading is None or prefill is None:
            return None
        latency_s = self._latency.per_second(now) or 0.0
        return Pace(reading.bytes_a_second, prefill, latency_s, reading.bytes_ahead)
