import pytest
from tests.fakes.fixed_clock import FixedClock

from semantic.application.answer_clock import AnswerClock
from semantic.application.engine_job import JobEvent, JobProgress, JobStarted, JobText
from semantic.domain.chat import Timings


def timed(*steps: float | JobEvent) -> Timings:
    """The times of an answer: seconds pass, events come."""
    clock = FixedClock()
    answer = AnswerClock(clock)
    for step in steps:
        if isinstance(step, float | int):
            clock.now += step
        else:
            answer.heard(step)
    return answer.timings()


def test_each_phase_has_its_time() -> None:
    timings = timed(1, JobStarted(0), 2, JobText("a"), 4, JobText("b"), 8)
    assert timings == Timings(queued_s=1, prefill_s=2, decode_s=12)
    assert timings.ttft_s == 3


def test_progress_is_no_text() -> None:
    assert timed(1, JobStarted(0), 2, JobProgress(1, 2), 4, JobText("a")) == Timings(1, 6, 0)


def test_a_request_that_starts_again_was_queued_until_its_first_start() -> None:
    assert timed(1, JobStarted(0), 2, JobStarted(9), 4, JobText("a")) == Timings(1, 6, 0)


@pytest.mark.parametrize(
    ("steps", "timings"),
    [((3.0, JobStarted(0), 4.0), Timings(3, 4, 0)), ((5.0,), Timings(5, 0, 0))],
)
def test_what_was_never_reached_took_no_time(
    steps: tuple[float | JobEvent, ...], timings: Timings
) -> None:
    assert timed(*steps) == timings


def test_progress_is_told_at_once_and_then_once_a_second() -> None:
    clock = FixedClock()
    answer = AnswerClock(clock)
    told = []
    for _ in range(12):
        told.append(answer.progress_is_due())
        clock.now += 0.25
    assert [at for at, due in enumerate(told) if due] == [0, 4, 8]
