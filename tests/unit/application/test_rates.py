import pytest

from semantic.application.rates import Rate


def test_unknown_until_something_has_been_measured() -> None:
    rate = Rate()
    assert rate.per_second(0.0) is None
    rate.count(0, 1.0, now=1.0)
    assert rate.per_second(1.0) is None
    rate.count(10, 0.0, now=1.0)
    assert rate.per_second(1.0) == 10


def test_what_takes_no_time_tells_nothing() -> None:
    rate = Rate()
    rate.count(10, 0.0, now=1.0)
    assert rate.per_second(1.0) is None


def test_a_steady_rate_is_found_whatever_the_pieces() -> None:
    rate = Rate()
    for number in range(50):
        seconds = 0.01 if number % 2 else 0.5
        rate.count(100 * seconds, seconds, now=float(number))
    assert rate.per_second(50.0) == pytest.approx(100)


def test_what_is_new_counts_more() -> None:
    rate = Rate()
    for number in range(100):
        rate.count(1000, 1.0, now=float(number))
    for number in range(100, 130):
        rate.count(10, 1.0, now=float(number))
    found = rate.per_second(130.0)
    assert found is not None
    assert 10 < found < 80


def test_silence_slows_it_down_while_it_lasts() -> None:
    rate = Rate()
    rate.count(100, 1.0, now=1.0)
    assert rate.per_second(10.0, silent_s=9.0) == pytest.approx(10)
    assert rate.per_second(10.0) == 100


def test_what_was_measured_long_ago_is_no_longer_known() -> None:
    rate, lasting = Rate(), Rate(lasting=True)
    for one in (rate, lasting):
        one.count(100, 1.0, now=1.0)
    assert rate.per_second(61.0) == 100
    assert rate.per_second(61.1) is None
    assert lasting.per_second(1e6) == 100
