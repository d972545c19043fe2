import time

from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.ports.clock import Clock


def test_monotonic_time_does_not_go_back() -> None:
    clock: Clock = SystemClock()
    first, second = clock.monotonic(), clock.monotonic()
    assert first <= second


def test_time_is_counted_from_the_epoch() -> None:
    before = time.time()
    assert before <= SystemClock().time() <= time.time()
