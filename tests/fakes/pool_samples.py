"""What the pool says of memory, and what the engine really holds, at one moment."""

from collections.abc import Callable
from typing import NamedTuple

from semantic.entrypoints.bootstrap import Application


class Sample(NamedTuple):
    """Bytes. `real` is what the engine's batches and blocks take, counted there."""

    held: int
    cached: int
    free: int
    total: int
    real: int


def observe(application: Application, sampled: Callable[[Sample], None]) -> bool:
    """Have `sampled` called after every step, on the engine's thread; False if nobody can."""
    del application, sampled
    return False
