"""How much a store may take and write, and what it gives up for that.

Everything in the store counts, agents' records too. At the high watermark blocks are evicted down
to the low one (ADR-005); what then finds no room is not written. Writing pauses while the disk is
nearly full, or once the day's budget is spent, and goes on by itself. Each is told once. Owned by
the writing thread, but for `writing` and `serve`.
"""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from semantic.domain.block import PartId
from semantic.domain.errors import CachePersistenceError
from semantic.domain.eviction import Evicted, Standing, evictions
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.block_store import BlockStore
from semantic.ports.clock import Clock
from semantic.ports.store_space import StoreSpace
from semantic.ports.telemetry import Telemetry

_AT_ONCE = 256
"""Parts deleted with one commit of the index."""
_HEADER = 8192
"""Bytes that a file takes at most beside its tensors: its header, and the end of its last block."""
_MEASURED_FOR = 64
"""Writes after which the store is measured again: records and the index grow as well."""
_LEAST_SHARE = 20
"""On a small disk, a twentieth of it is kept free instead of `min_free_bytes`."""


@dataclass(frozen=True, slots=True)
class SpaceLimits:
    """`max_share`: of the disk that was free at start; it bounds growth only.

    Watermarks are shares of the cap. `daily_write_bytes` is 0 where there is no limit. After
    `recheck_s` a pause is looked at again.
    """

    max_bytes: int
    max_share: float
    min_free_bytes: int
    daily_write_bytes: int
    writes: bool
    high_watermark: float
    low_watermark: float
    recheck_s: float


class Pause(enum.Enum):
    """Why nothing is written, neither blocks nor records."""

    OFF = "store.writes is false"
    DISK = "the disk is nearly full (store.min_free_bytes)"
    BUDGET = "as much was written today as may be (store.daily_write_bytes)"


@dataclass(frozen=True, slots=True)
class Served:
    """The model that runs: its namespace, how far its windows reach, what answers stand on."""

    namespace: Namespace
    reach: int
    active: Callable[[], frozenset[BlockKey]]


@dataclass(frozen=True, slots=True)
class Demand:
    """Room for so many parts, or records, of so many bytes.

    They build on blocks that must stay; on those `awaited` build parts that are still to come.
    """

    nbytes: int = 0
    parts: int = 1
    builds_on: frozenset[BlockKey] = frozenset()
    awaited: frozenset[BlockKey] = frozenset()


_NOTHING = Demand(parts=0)


@dataclass(slots=True)
class _Measured:
    usage: int
    writes_left: int = field(default=_MEASURED_FOR)


class SpaceKeeper:
    """Keeps one store within its limits. `lost` hears of parts once they are gone, of no others.

    Where room cannot be made, because what is no block fills the cap, no block goes for it.
    """

    def __init__(
        self,
        blocks: BlockStore,
        space: StoreSpace,
        limits: SpaceLimits,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._blocks = blocks
        self._space = space
        self._limits = limits
        self._clock = clock
        self._telemetry = telemetry
        self._served: Served | None = None
        self._measured = _Measured(space.usage())
        self.cap = cap_of(
            limits.max_bytes, limits.max_share, space.disk().free, self._measured.usage
        )
        self._limit = "store.max_bytes" if self.cap == limits.max_bytes else "store.max_disk_share"
        self._pause: Pause | None = None
        self._full = False
        self.look()

    @property
    def writing(self) -> bool:
        """Whether anything is written now. May be asked from any thread."""
        return self._pause is None

    @property
    def patience_s(self) -> float | None:
        """When to `look` again; None if there is no need."""
        return self._limits.recheck_s if self._pause in (Pause.DISK, Pause.BUDGET) else None

    def serve(self, served: Served) -> None:
        """Know which model runs."""
        self._served = served

    def look(self, nbytes: int = 0) -> None:
        """Find out whether `nbytes` more may be written, and tell of a change."""
        pause = self._reason_to_pause(nbytes)
        if pause is not None and self._pause is None:
            self._telemetry.warning("writing_paused", reason=pause.value)
        elif pause is None and self._pause is not None:
            self._telemetry.info("writing_resumed")
        self._pause = pause

    def admit(self, demand: Demand, lost: Callable[[PartId], None]) -> bool:
        """Make room for parts or records; whether they may be written.

        Several that would drive out more than the watermarks let go of at once, or for which
        writing would pause, are to be tried one by one.
        """
        wanted = demand.nbytes + demand.parts * _HEADER
        low = self._limits.low_watermark * self.cap
        at_once = self._limits.high_watermark * self.cap - low
        if demand.parts > 1 and (wanted > at_once or self._reason_to_pause(wanted)):
            return False
        self.look(wanted)
        if not self.writing:
            return False
        if self._expected(wanted) > self._limits.high_watermark * self.cap:
            self._measure()
            if wanted <= low:  # for what does not fit at all nothing need go
                self._make_room(lost, wanted, demand)
        fits = self._measured.usage + wanted <= self.cap
        if fits:
            self._measured.usage += wanted
        elif not self._full:
            self._telemetry.warning(
                "store_full", cap=self.cap, limit=self._limit, usage=self._measured.usage
            )
        # Something smaller that still fits ends nothing: it would be told again at once.
        above = self._measured.usage > self._limits.high_watermark * self.cap
        self._full = not fits or (self._full and above)
        return fits

    def shrink(self, lost: Callable[[PartId], None]) -> None:
        """If it is above the cap, bring it below the low watermark, as far as that goes."""
        if self._above(1.0, 0) > 0:
            surplus = self._above(self._limits.low_watermark, 0)
            surplus -= self._space.clear_quarantine(surplus)
            going = list(_as_many_as(evictions(self._space.kept(), self._standing()), surplus))
            if _nbytes(going) < surplus and (least := self._above(1.0, 0)) <= _nbytes(going):
                going = list(_as_many_as(iter(going), least))
            self._evict(going, lost)

    def _make_room(self, lost: Callable[[PartId], None], wanted: int, demand: Demand) -> None:
        """Let blocks go for `wanted` bytes, if that helps."""
        high, low = self._limits.high_watermark, self._limits.low_watermark
        if self._space.clear_quarantine(max(0, self._above(low, wanted))):
            self._measure()
        if self._above(high, wanted) <= 0:
            return
        kept = list(self._space.kept())
        # Where there are few blocks beside records, not all of them go at once.
        half = sum(part.nbytes for part in kept) // 2
        surplus = min(self._above(low, wanted), max(self._above(high, wanted), half))
        going = list(_as_many_as(evictions(kept, self._standing(demand)), surplus))
        if _nbytes(going) < surplus:  # these are all there are
            least = self._above(1.0, wanted)
            helps = least <= _nbytes(going)
            going = list(_as_many_as(iter(going), least)) if helps else []
        self._evict(going, lost)

    def _above(self, share: float, wanted: int) -> int:
        """By how much it would take more than this share of the cap with `wanted` more."""
        return self._measured.usage + wanted - int(share * self.cap)

    def _evict(self, going: list[Evicted], lost: Callable[[PartId], None]) -> None:
        if not going:
            return
        before = self._measured.usage
        for part in self._deleted(going):
            lost(part)
        self._measure()
        self._telemetry.info(
            "store_shrunk",
            limit=self._limit,
            cap=self.cap,
            parts=len(going),
            before=before,
            after=self._measured.usage,
        )

    def wrote(self, nbytes: int) -> None:
        """Records of so many bytes were written: they count into the day's budget."""
        self._space.wrote(nbytes)

    def sweep(self) -> Iterator[tuple[PartId, ...]]:
        """Steps of putting the store in order; see the port."""
        return self._space.sweep()

    def used(self, namespace: Namespace, keys: tuple[BlockKey, ...]) -> None:
        """Blocks have been used now."""
        self._space.used(namespace, keys)

    def _expected(self, wanted: int) -> int:
        self._measured.writes_left -= 1
        if not self._measured.writes_left:
            self._measure()
        return self._measured.usage + wanted

    def _measure(self) -> None:
        self._measured = _Measured(self._space.usage())

    def _deleted(self, going: list[Evicted]) -> Iterator[PartId]:
        """Delete parts, and tell which went: what stays is still served, and tried again."""
        for namespace, group in groupby(going, key=lambda part: part.namespace):
            parts = [part.id for part in group]
            for first in range(0, len(parts), _AT_ONCE):
                some = parts[first : first + _AT_ONCE]
                try:
                    self._blocks.delete(namespace, *some)
                except CachePersistenceError as error:
                    self._telemetry.warning("block_not_deleted", error=str(error))
                    some = [part for part in some if not self._blocks.exists(namespace, part)]
                yield from some

    def _standing(self, demand: Demand = _NOTHING) -> Standing:
        now, served = self._clock.time(), self._served
        if served is None:
            return Standing(now, active=demand.awaited, held=demand.builds_on)
        active = served.active() | demand.awaited
        return Standing(now, served.namespace, served.reach, active, demand.builds_on)

    def _reason_to_pause(self, nbytes: int) -> Pause | None:
        limits, budget = self._limits, self._limits.daily_write_bytes
        if not limits.writes:
            return Pause.OFF
        disk = self._space.disk()
        least = min(limits.min_free_bytes, disk.total // _LEAST_SHARE)
        # It takes more to go on than to go on writing: no pause is to begin again at once.
        spare = least // 10 if self._pause is Pause.DISK else nbytes
        if disk.free - spare < least:
            return Pause.DISK
        spare = budget // 2 if self._pause is Pause.BUDGET else nbytes
        if budget and self._space.written_today() + spare > budget:
            return Pause.BUDGET
        return None


def cap_of(max_bytes: int, max_share: float, free: int, usage: int) -> int:
    """What a store may take that takes `usage` now and has `free` beside it.

    What it takes already it keeps, though others have filled the disk since: the share bounds
    growth. `max_bytes` holds in any case.
    """
    return min(max_bytes, max(usage, int((free + usage) * max_share)))


def _nbytes(going: list[Evicted]) -> int:
    return sum(part.nbytes for part in going)


def _as_many_as(going: Iterator[Evicted], wanted: int) -> Iterator[Evicted]:
    for part in going:
        if wanted <= 0:
            return
        wanted -= part.nbytes
        yield part
