"""What the pool says of memory, and what the engine really holds, at one moment."""

from collections.abc import Callable
from typing import NamedTuple

from semantic.domain.block_pool import Holder
from semantic.domain.step_plan import StepPlan
from semantic.entrypoints.bootstrap import Application


class Sample(NamedTuple):
    """Bytes. `running` is claimed for batches; `batches` is what these take, counted there."""

    held: int
    cached: int
    free: int
    total: int
    running: int
    batches: int


def observe(application: Application, sampled: Callable[[Sample], None]) -> None:
    """Have `sampled` called after every step, on the engine's thread."""
    parts = application.engine.parts
    pool, performed = parts.cache.parts.pool, parts.scheduler.performed

    def observed(plan: StepPlan, seconds: float) -> None:
        performed(plan, seconds)
        pool.check()
        running, batches = pool.claimed(Holder.RUNNING), parts.executor.held_bytes()
        sampled(Sample(pool.held, pool.cached, pool.free, pool.total, running, batches))

    parts.scheduler.performed = observed  # type: ignore[method-assign]
