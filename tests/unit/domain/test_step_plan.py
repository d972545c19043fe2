from hypothesis import given
from hypothesis import strategies as st

from semantic.domain.ids import SequenceId
from semantic.domain.step_plan import PrefillChunk, StepPlan, StepResult, next_chunk

positions = st.integers(min_value=0, max_value=5000)
amounts = st.integers(min_value=1, max_value=5000)
block_sizes = st.integers(min_value=1, max_value=512)


def test_a_plan_is_empty_until_something_decodes_or_prefills() -> None:
    chunk = PrefillChunk(SequenceId(1), (5,), last=True)
    assert StepPlan().empty
    assert not StepPlan(decode=(SequenceId(1),)).empty
    assert not StepPlan(prefill=chunk).empty


def test_a_result_of_nothing_has_no_tokens() -> None:
    assert StepResult().sampled == ()


def test_a_chunk_goes_as_far_as_a_boundary() -> None:
    assert next_chunk(computed=100, remaining=1000, budget=1000, block_size=256) == 924
    assert next_chunk(computed=100, remaining=1000, budget=200, block_size=256) == 156


def test_a_chunk_that_reaches_no_boundary_takes_what_it_can() -> None:
    # To 128: an even position, to which others come as well.
    assert next_chunk(computed=100, remaining=1000, budget=50, block_size=256) == 28
    assert next_chunk(computed=128, remaining=1000, budget=50, block_size=256) == 32
    assert next_chunk(computed=131, remaining=1000, budget=16, block_size=256) == 13
    assert next_chunk(computed=100, remaining=7, budget=50, block_size=256) == 7


@given(positions, amounts, amounts, block_sizes)
def test_a_chunk_is_within_its_bounds(
    computed: int, remaining: int, budget: int, block_size: int
) -> None:
    assert 1 <= next_chunk(computed, remaining, budget, block_size) <= min(remaining, budget)


@given(positions, amounts, amounts, block_sizes)
def test_a_chunk_ends_on_a_boundary_or_stays_inside_one_block(
    computed: int, remaining: int, budget: int, block_size: int
) -> None:
    end = computed + next_chunk(computed, remaining, budget, block_size)
    on_boundary = end % block_size == 0
    inside_one_block = computed // block_size == (end - 1) // block_size
    assert on_boundary or inside_one_block


@given(positions, amounts, amounts, block_sizes)
def test_a_chunk_stops_short_only_for_a_boundary(
    computed: int, remaining: int, budget: int, block_size: int
) -> None:
    chunk = next_chunk(computed, remaining, budget, block_size)
    short = chunk < min(remaining, budget)
    end = computed + chunk
    even = end % (1 << (budget.bit_length() - 1)) == 0 and budget < remaining
    assert not short or end % block_size == 0 or even


@given(amounts, amounts, block_sizes)
def test_chunks_add_up_to_the_prompt(prompt: int, budget: int, block_size: int) -> None:
    computed = 0
    for _ in range(prompt):
        if computed == prompt:
            break
        computed += next_chunk(computed, prompt - computed, budget, block_size)
    assert computed == prompt
