import pytest
from tests.fakes.fixed_clock import FixedClock

from semantic.application.room import Room
from semantic.domain.errors import PoolExhaustedError


class Bench:
    """A room whose jobs end every `seconds`."""

    def __init__(self, max_jobs: int = 2) -> None:
        self.clock = FixedClock()
        self.room = Room(max_jobs, self.clock)

    def end(self, count: int, *, after_s: float) -> None:
        for _ in range(count):
            self.clock.now += after_s
            self.room.give_back()

    def wait_s(self) -> float:
        with pytest.raises(PoolExhaustedError) as caught:
            self.room.take()
        assert caught.value.retry_after_s is not None
        return caught.value.retry_after_s


def full(max_jobs: int = 2) -> Bench:
    bench = Bench(max_jobs)
    for _ in range(max_jobs):
        bench.room.take()
    return bench


def test_no_more_than_there_is_room_for() -> None:
    bench = full()
    with pytest.raises(PoolExhaustedError, match="2 requests"):
        bench.room.take()
    assert bench.room.unfinished == 2
    bench.end(1, after_s=1)
    bench.room.take()
    assert bench.room.unfinished == 2


def test_without_experience_a_second_is_told() -> None:
    assert full().wait_s() == 1


def test_it_tells_how_long_jobs_have_taken_lately() -> None:
    bench = full(max_jobs=10)
    bench.end(5, after_s=7)
    for _ in range(5):
        bench.room.take()
    assert bench.wait_s() == pytest.approx(7)


def test_what_is_told_adapts() -> None:
    bench = full(max_jobs=100)
    bench.end(10, after_s=30)
    bench.end(10, after_s=2)
    for _ in range(20):
        bench.room.take()
    assert 2 < bench.wait_s() < 6


def test_a_job_that_takes_longer_than_those_before_counts() -> None:
    bench = full(max_jobs=3)
    bench.end(1, after_s=2)
    bench.room.take()
    bench.clock.now += 20
    assert bench.wait_s() > 10


@pytest.mark.parametrize(("after_s", "told"), [(0.001, 1), (500, 60)])
def test_it_stays_within_bounds(after_s: float, told: float) -> None:
    bench = full(max_jobs=10)
    bench.end(5, after_s=after_s)
    for _ in range(5):
        bench.room.take()
    assert bench.wait_s() == told


def test_hours_without_work_say_nothing_of_how_fast_work_goes() -> None:
    bench = Bench(max_jobs=1)
    bench.room.take()
    bench.end(1, after_s=3)
    bench.clock.now += 10_000
    bench.room.take()
    assert bench.wait_s() == pytest.approx(3)
