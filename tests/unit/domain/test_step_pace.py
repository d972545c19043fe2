import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.step_pace import StepPace


def test_without_a_target_chunks_are_as_large_as_may_be() -> None:
    pace = StepPace()
    pace.measured(100.0, decoded=True, prefilled=10)
    assert pace.chunk(256) == 256


def test_before_anything_is_measured_chunks_are_small() -> None:
    assert StepPace(0.5).chunk(256) < 64


def test_a_chunk_takes_what_the_decode_leaves_of_the_target() -> None:
    pace = StepPace(0.5)
    pace.measured(0.1, decoded=True, prefilled=0)
    pace.measured(0.2, decoded=False, prefilled=100)
    # 0.4 s to aim at, 0.1 s of them for decoding, 2 ms a token.
    assert pace.chunk(1000) == pytest.approx(150, abs=1)
    assert pace.chunk(1000, spent_s=0.1) == pytest.approx(100, abs=1)
    assert pace.chunk(64) == 64


def test_however_slow_a_prompt_gets_on() -> None:
    pace = StepPace(0.01)
    pace.measured(5.0, decoded=True, prefilled=0)
    pace.measured(9.0, decoded=True, prefilled=1)
    assert pace.chunk(256) == 16
    assert pace.chunk(8) == 8


def test_what_gets_slower_is_believed_sooner_than_what_gets_faster() -> None:
    slow, fast = StepPace(1.0), StepPace(1.0)
    for pace in (slow, fast):
        pace.measured(1.0, decoded=False, prefilled=1000)
    slow.measured(4.0, decoded=False, prefilled=1000)
    fast.measured(0.25, decoded=False, prefilled=1000)
    assert slow.chunk(10_000) < 400
    assert fast.chunk(10_000) < 1000


@given(
    token_s=st.floats(1e-5, 1e-2),
    decode_s=st.floats(0, 0.2),
    target_s=st.floats(0.3, 2.0),
)
def test_turns_of_an_even_machine_stay_below_the_target(
    token_s: float, decode_s: float, target_s: float
) -> None:
    pace = StepPace(target_s)
    for _ in range(30):
        chunk = pace.chunk(4096)
        turn = decode_s + token_s * chunk
        assert turn <= target_s or chunk <= 16 or math.isclose(turn, target_s)
        pace.measured(turn, decoded=True, prefilled=chunk)
        pace.measured(decode_s, decoded=True, prefilled=0)
