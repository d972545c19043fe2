"""What is to be seen of the memory for KV from outside, and the report when it gets short.

Invariant: what is seen is one moment's, the end of the engine's last turn: it is replaced whole and
never changed, so other threads may look at it without a lock. Knows nothing of who asks.
"""

from semantic.domain.block_pool import BlockPool, Holder, Pressure
from semantic.ports.administration import MemoryUse
from semantic.ports.telemetry import Telemetry


class MemoryGauge:
    """Looks at a pool. `use` may be asked from any thread, all else only from the engine's."""

    def __init__(self, pool: BlockPool, telemetry: Telemetry) -> None:
        self._pool = pool
        self._telemetry = telemetry
        self._preemptions = 0
        self._use = self._measured(in_work=0, batches=0, waiting=0)

    @property
    def use(self) -> MemoryUse:
        """What was seen last: a turn of the engine's old at most, unless the engine hangs."""
        return self._use

    def preempted(self) -> None:
        """A sequence gives way to others."""
        self._preemptions += 1

    def look(self, *, in_work: int, batches: int, waiting: int) -> None:
        """See what there is now; report the pressure if it is another."""
        before, self._use = self._use, self._measured(in_work, batches, waiting)
        if self._use.pressure is not before.pressure:
            self._report(self._use)

    def _measured(self, in_work: int, batches: int, waiting: int) -> MemoryUse:
        pool = self._pool
        return MemoryUse(
            total=pool.total,
            free=pool.free,
            held=pool.held,
            cached=pool.cached,
            running=pool.claimed(Holder.RUNNING),
            reading=pool.claimed(Holder.READING),
            pressure=pool.pressure,
            in_work=in_work,
            batches=batches,
            waiting=waiting,
            preemptions=self._preemptions,
        )

    def _report(self, use: MemoryUse) -> None:
        critical = use.pressure is Pressure.CRITICAL
        report = self._telemetry.warning if critical else self._telemetry.info
        report(
            "kv_pressure",
            level=use.pressure.value,
            held=use.held,
            cached=use.cached,
            total=use.total,
        )
