from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.application.scheduler import Scheduler, SchedulerLimits
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import SequenceId
from semantic.domain.sampling import SamplingParams
from semantic.domain.sequence import Sequence, SequenceState
from semantic.domain.step_plan import PrefillChunk, StepPlan

LIMITS = SchedulerLimits(max_batch=2, chunk_alone=1024, chunk_shared=64)


def make_sequence(number: int, num_prompt: int, cached: int = 0) -> Sequence:
    sequence = Sequence(SequenceId(number), tuple(range(num_prompt)), SamplingParams(), 4)
    sequence.restored(cached)
    return sequence


def decoding(number: int) -> Sequence:
    sequence = make_sequence(number, 1)
    sequence.prefilled(1)
    return sequence


def scheduler_of(*sequences: Sequence, limits: SchedulerLimits = LIMITS) -> Scheduler:
    scheduler = Scheduler(limits)
    for sequence in sequences:
        scheduler.add(sequence)
    return scheduler


def chunk_of(scheduler: Scheduler) -> PrefillChunk:
    chunk = scheduler.plan().prefill
    assert chunk is not None
    return chunk


def test_with_nothing_in_work_the_plan_is_empty() -> None:
    assert scheduler_of().plan() == StepPlan()


def test_who_waits_for_blocks_is_in_no_plan_and_takes_a_place() -> None:
    loading = Sequence(SequenceId(1), (1, 2), SamplingParams(), 4)
    loading.move(SequenceState.LOADING)
    scheduler = scheduler_of(loading, decoding(2))
    assert scheduler.plan() == StepPlan(decode=(SequenceId(2),))
    assert not scheduler.has_room


def test_there_is_no_more_room_than_the_limit() -> None:
    scheduler = scheduler_of(decoding(1), decoding(2))
    with pytest.raises(ValueError, match="2 sequences"):
        scheduler.add(decoding(3))
    scheduler.remove(SequenceId(1))
    scheduler.remove(SequenceId(1))
    assert scheduler.has_room
    assert len(scheduler) == 1


def test_a_chunk_is_large_while_nobody_decodes_and_small_otherwise() -> None:
    long = make_sequence(1, 5000)
    assert len(chunk_of(scheduler_of(long)).tokens) == 1024
    assert len(chunk_of(scheduler_of(decoding(2), long)).tokens) == 64


def test_after_a_restore_the_first_chunk_ends_on_a_boundary() -> None:
    chunk = chunk_of(scheduler_of(make_sequence(1, 5000, cached=300)))
    assert chunk.tokens[0] == 300
    assert chunk.tokens[-1] + 1 == 1280


def test_who_came_first_is_prefilled_first() -> None:
    first, second = make_sequence(2, 10), make_sequence(1, 10)
    scheduler = scheduler_of(first, second)
    assert chunk_of(scheduler).sequence == first.id
    first.prefilled(10)
    plan = scheduler.plan()
    assert plan.decode == (first.id,)
    assert plan.prefill == PrefillChunk(second.id, second.prompt, last=True, joins=first.id)


def test_a_prompt_is_cut_at_boundaries_and_nowhere_else() -> None:
    sequence = make_sequence(1, 600)
    scheduler = scheduler_of(sequence)
    ends = []
    while sequence.state is SequenceState.PREFILL:
        chunk = chunk_of(scheduler)
        sequence.prefilled(len(chunk.tokens))
        ends.append(sequence.num_computed)
        assert chunk.last == (sequence.num_computed == 600)
    assert ends == [512, 600]


def test_a_chunk_ends_at_a_mark() -> None:
    sequence = make_sequence(1, 5000)
    sequence.marks = (300, 1024, 4999)
    scheduler = scheduler_of(sequence)
    ends = []
    while sequence.state is SequenceState.PREFILL:
        sequence.prefilled(len(chunk_of(scheduler).tokens))
        ends.append(sequence.num_computed)
    assert ends == [256, 300, 1024, 2048, 3072, 4096, 4864, 4999, 5000]


@dataclass(frozen=True)
class Arrival:
    step: int
    num_prompt: int
    cached: int
    num_answer: int
    marks: tuple[int, ...]


ARRIVALS = st.builds(
    Arrival,
    step=st.integers(0, 12),
    num_prompt=st.integers(1, 3 * BLOCK_SIZE + 5),
    cached=st.integers(0, 2 * BLOCK_SIZE),
    num_answer=st.integers(1, 6),
    marks=st.sets(st.integers(1, 3 * BLOCK_SIZE), max_size=3).map(
        lambda marks: tuple(sorted(marks))
    ),
)


@settings(deadline=None)
@given(
    arrivals=st.lists(ARRIVALS, min_size=1, max_size=6),
    limits=st.builds(SchedulerLimits, st.integers(1, 3), st.integers(1, 1100), st.integers(1, 600)),
)
def test_every_prompt_is_covered_once_and_nobody_who_decodes_waits(
    arrivals: list[Arrival], limits: SchedulerLimits
) -> None:
    scheduler = Scheduler(limits)
    waiting = sorted(enumerate(arrivals), key=lambda item: item[1].step)
    running: dict[SequenceId, Sequence] = {}
    computed: dict[SequenceId, list[int]] = {}
    step = 0
    while waiting or running:
        while waiting and waiting[0][1].step <= step and scheduler.has_room:
            number, arrival = waiting.pop(0)
            cached = min(arrival.cached, arrival.num_prompt - 1)
            sequence = make_sequence(number, arrival.num_prompt, cached)
            sequence.max_tokens = arrival.num_answer
            sequence.marks = arrival.marks
            scheduler.add(sequence)
            running[sequence.id] = sequence
            computed[sequence.id] = list(sequence.prompt[:cached])
        assert len(scheduler) == len(running) <= limits.max_batch
        plan = scheduler.plan()
        assert plan.empty == (not running)
        decode = [s for s in running.values() if s.state is SequenceState.DECODE]
        assert plan.decode == tuple(sequence.id for sequence in decode)
        for sequence in decode:
            sequence.decoded(0)
            if len(sequence.generated) == sequence.max_tokens:
                scheduler.remove(sequence.id)
                del running[sequence.id]
        if plan.prefill is not None:
            sequence = running[plan.prefill.sequence]
            start, length = sequence.num_computed, len(plan.prefill.tokens)
            end = start + length
            assert 1 <= length <= (limits.chunk_shared if decode else limits.chunk_alone)
            assert end % BLOCK_SIZE == 0 or start // BLOCK_SIZE == (end - 1) // BLOCK_SIZE
            assert not set(sequence.marks) & set(range(start + 1, end))
            computed[sequence.id] += plan.prefill.tokens
            sequence.prefilled(length)
            assert plan.prefill.last == (sequence.state is SequenceState.DECODE)
        step += 1
    for number, arrival in enumerate(arrivals):
        assert computed[SequenceId(number)] == list(range(arrival.num_prompt))


def test_prompts_that_are_read_together_are_answered_together() -> None:
    sequences = [make_sequence(number, 300) for number in range(4)]
    limits = SchedulerLimits(max_batch=4, chunk_alone=1024, chunk_shared=16)
    scheduler = Scheduler(limits)
    for sequence in sequences:
        scheduler.enter(sequence)
        scheduler.add(sequence)
    began: list[int] = []
    tokens = 0
    while len(began) < 4:
        plan = scheduler.plan()
        assert plan.prefill is not None
        for key in plan.decode:
            sequences[key].decoded(0)
        sequences[plan.prefill.sequence].prefilled(len(plan.prefill.tokens))
        tokens += len(plan.prefill.tokens)
        began += [tokens] * plan.prefill.last
        scheduler.performed(plan, 0.0)
    # Nobody decodes before all but the last tokens have been read, and in large chunks.
    assert began == [1197, 1198, 1199, 1200]
    assert sorted(len(sequence.generated) for sequence in sequences) == [0, 1, 2, 3]


def test_a_short_prompt_does_not_wait_for_a_long_one_to_be_answered_together() -> None:
    short, long = make_sequence(0, 20), make_sequence(1, 5000)
    scheduler = Scheduler(SchedulerLimits(max_batch=2, chunk_alone=512, chunk_shared=64))
    for sequence in (short, long):
        scheduler.enter(sequence)
        scheduler.add(sequence)
    while short.state is SequenceState.PREFILL:
        plan = scheduler.plan()
        assert plan.prefill is not None
        read = short if plan.prefill.sequence == short.id else long
        read.prefilled(len(plan.prefill.tokens))
        scheduler.performed(plan, 0.0)
    assert long.num_computed <= 512
