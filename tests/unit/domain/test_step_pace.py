import math

from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.step_pace import StepPace


def test_without_a_target_chunks_are_as_large_as_may_be() -> None:
    pace = StepPace()
    pace.measured(100.0, decoded=True, prefilled=10)
    assert pace.chunk(256) == 256


def test_before_anything_is_measured_chunks_are_small() -> None:
    assert StepPace(0.5).chunk(256) == 16


def test_a_chunk_takes_what_the_decode_leaves_of_the_target() -> None:
    pace = StepPace(0.5)
    pace.measured(0.1, decoded=True, prefilled=0)
    pace.measured(0.2, decoded=False, prefilled=100)
    # 0.45 s to aim at, 0.1 s of them for decoding, 2 ms a token.
    assert pace.chunk(1000) == 128
    assert pace.chunk(1000, spent_s=0.25) == 48
    assert pace.chunk(64) == 64


def test_between_two_sizes_it_is_reckoned_on_a_line() -> None:
    pace = StepPace(0.5)
    pace.measured(0.05, decoded=False, prefilled=16)
    pace.measured(0.85, decoded=False, prefilled=416)
    assert pace.chunk(1000) == 128
    assert pace.chunk(1000, spent_s=0.3) == 64
    assert pace.chunk(1000, spent_s=0.34) == 40


def test_however_slow_a_prompt_gets_on() -> None:
    pace = StepPace(0.01)
    pace.measured(5.0, decoded=True, prefilled=0)
    pace.measured(9.0, decoded=True, prefilled=16)
    assert pace.chunk(256) >= 16
    assert pace.chunk(8) == 8


def test_what_gets_slower_is_believed_sooner_than_what_gets_faster() -> None:
    slow, fast = StepPace(1.0), StepPace(1.0)
    for pace in (slow, fast):
        pace.measured(0.5, decoded=False, prefilled=1000)
    slow.measured(2.0, decoded=False, prefilled=1000)
    fast.measured(0.125, decoded=False, prefilled=1000)
    assert slow.chunk(10_000) == 512
    assert fast.chunk(10_000) == 2048


def turns(
    pace: StepPace, fixed_s: float, token_s: float, decode_s: float, count: int, most: int = 4096
) -> list[tuple[int, float]]:
    """Chunks and seconds of turns on a machine as even as this."""
    found = []
    for _ in range(count):
        chunk = pace.chunk(most)
        turn = decode_s + fixed_s + token_s * chunk
        pace.measured(turn, decoded=True, prefilled=chunk)
        pace.measured(decode_s, decoded=True, prefilled=0)
        found.append((chunk, turn))
    return found


@given(
    fixed_s=st.floats(0, 0.1),
    token_s=st.floats(1e-5, 5e-3),
    decode_s=st.floats(0, 0.05),
    target_s=st.floats(0.3, 2.0),
)
def test_turns_of_an_even_machine_stay_below_the_target(
    fixed_s: float, token_s: float, decode_s: float, target_s: float
) -> None:
    for chunk, turn in turns(StepPace(target_s), fixed_s, token_s, decode_s, 30):
        assert turn <= target_s or chunk <= 16 or math.isclose(turn, target_s)


@given(fixed_s=st.floats(0.01, 0.1), token_s=st.floats(1e-5, 5e-3))
def test_most_of_the_time_is_used(fixed_s: float, token_s: float) -> None:
    *_, (chunk, turn) = turns(StepPace(0.5), fixed_s, token_s, 0.02, 40)
    # Twice the chunk would be too much; or it is what may be asked for.
    assert turn + token_s * chunk > 0.5 * 0.6 or chunk == 4096


@given(st.floats(1e-5, 1e-3))
def test_a_target_out_of_reach_does_not_make_chunks_tiny(token_s: float) -> None:
    """What a chunk takes at least is more than the target leaves, as with kernels made anew."""
    *_, (chunk, turn) = turns(StepPace(0.1), 0.09, token_s, 0.015, 40)
    assert turn < 0.015 + 2 * (0.09 + 16 * token_s) * 1.01
    assert 2 * chunk * token_s > 0.2 * 0.09 or chunk == 4096


def test_what_is_no_measure_of_a_chunk_is_not_taken_for_one() -> None:
    pace = StepPace(0.5)
    pace.measured(0.2, decoded=False, prefilled=128)
    pace.measured(3.0, decoded=True, prefilled=1)
    assert pace.chunk(1000) == 256


def test_one_slow_turn_is_not_believed_for_ever() -> None:
    pace = StepPace(0.5)
    turns(pace, 0.02, 0.001, 0.02, 20)
    before = pace.chunk(4096)
    pace.measured(30.0, decoded=True, prefilled=before)
    assert pace.chunk(4096) < before
    turns(pace, 0.02, 0.001, 0.02, 4000)
    assert max(chunk for chunk, _ in turns(pace, 0.02, 0.001, 0.02, 2000)) == before
