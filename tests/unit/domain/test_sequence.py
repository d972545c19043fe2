import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from semantic.domain.ids import AgentKey, SequenceId, TenantId
from semantic.domain.sampling import SamplingParams
from semantic.domain.sequence import IllegalTransitionError, Sequence, SequenceState

PROMPT = tuple(range(100, 108))

LEGAL = {
    ("WAITING", "LOADING"),
    ("WAITING", "PREFILL"),
    ("WAITING", "FINISHED"),
    ("LOADING", "WAITING"),
    ("LOADING", "PREFILL"),
    ("LOADING", "FINISHED"),
    ("PREFILL", "WAITING"),
    ("PREFILL", "DECODE"),
    ("PREFILL", "FINISHED"),
    ("DECODE", "WAITING"),
    ("DECODE", "FINISHED"),
}


def sequence(
    state: SequenceState = SequenceState.WAITING, prompt: tuple[int, ...] = PROMPT
) -> Sequence:
    return Sequence(
        id=SequenceId(1), prompt=prompt, sampling=SamplingParams(), max_tokens=4, state=state
    )


def test_a_sequence_needs_a_prompt() -> None:
    with pytest.raises(ValueError, match="at least one prompt token"):
        sequence(prompt=())


def test_a_sequence_needs_room_for_an_answer() -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        Sequence(id=SequenceId(1), prompt=PROMPT, sampling=SamplingParams(), max_tokens=0)


@given(st.sampled_from(SequenceState), st.sampled_from(SequenceState))
def test_the_table_of_states_is_what_it_should_be(
    before: SequenceState, after: SequenceState
) -> None:
    subject = sequence(before)
    if (before.name, after.name) in LEGAL:
        subject.move(after)
        assert subject.state is after
    else:
        with pytest.raises(IllegalTransitionError, match=f"{before.name} -> {after.name}"):
            subject.move(after)
        assert subject.state is before


@pytest.mark.parametrize("num_tokens", [-1, len(PROMPT), len(PROMPT) + 1])
def test_a_restore_must_leave_a_token_to_compute(num_tokens: int) -> None:
    subject = sequence()
    with pytest.raises(ValueError, match="tokens restored"):
        subject.restored(num_tokens)
    assert (subject.state, subject.num_computed) == (SequenceState.WAITING, 0)


def test_a_restore_out_of_turn_changes_nothing() -> None:
    subject = sequence(SequenceState.DECODE)
    with pytest.raises(IllegalTransitionError):
        subject.restored(3)
    assert (subject.num_cached, subject.num_computed) == (0, 0)


def test_a_restore_counts_as_cached_and_computed() -> None:
    subject = sequence()
    subject.restored(3)
    assert subject.state is SequenceState.PREFILL
    assert (subject.num_cached, subject.num_computed, subject.remaining_prefill) == (3, 3, 5)


def test_decoding_begins_after_the_last_prompt_token() -> None:
    subject = sequence()
    subject.restored(0)
    subject.prefilled(7)
    assert subject.remaining_prefill == 1
    subject.prefilled(1)
    assert subject.state is SequenceState.DECODE


@pytest.mark.parametrize(
    ("marks", "stretches"),
    [
        ((), [8]),
        ((3,), [3, 5]),
        ((3, 5), [3, 2, 3]),
        ((7,), [7, 1]),
        ((1, 2), [1, 1, 6]),
    ],
)
def test_prefill_stops_at_marks(marks: tuple[int, ...], stretches: list[int]) -> None:
    subject = sequence()
    subject.marks = marks
    subject.restored(0)
    taken = []
    while subject.state is SequenceState.PREFILL:
        taken.append(subject.stretch)
        subject.prefilled(subject.stretch)
    assert taken == stretches
    assert subject.stretch == 0


@pytest.mark.parametrize(("cached", "stretch"), [(2, 1), (3, 5), (4, 4), (6, 2), (7, 1)])
def test_marks_that_lie_behind_count_no_more(cached: int, stretch: int) -> None:
    subject = sequence()
    subject.marks = (3,)
    subject.restored(cached)
    assert subject.stretch == stretch


def test_a_prompt_of_one_token_is_one_stretch() -> None:
    subject = sequence(prompt=(5,))
    subject.restored(0)
    assert subject.stretch == 1


def test_more_prefill_than_prompt_is_refused() -> None:
    subject = sequence()
    subject.restored(4)
    with pytest.raises(ValueError, match="5 tokens prefilled, 4 expected"):
        subject.prefilled(5)
    assert subject.num_computed == 4


def test_prefill_out_of_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="prefilled"):
        sequence().prefilled(1)


def test_a_token_out_of_turn_is_refused() -> None:
    subject = sequence()
    with pytest.raises(ValueError, match="WAITING"):
        subject.decoded(7)
    assert subject.generated == []


def decoding(*generated: int) -> Sequence:
    subject = sequence()
    subject.restored(0)
    subject.prefilled(len(PROMPT))
    for token in generated:
        subject.decoded(token)
    return subject


def test_computed_tokens_cross_from_the_prompt_into_the_answer() -> None:
    subject = decoding(1, 2, 3)
    assert subject.computed_tokens(0, 2) == (100, 101)
    assert subject.computed_tokens(6, 10) == (106, 107, 1, 2)
    assert subject.computed_tokens(4, 4) == ()


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 12)])
def test_tokens_without_kv_cannot_be_had(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="computed tokens"):
        decoding(1, 2, 3).computed_tokens(start, end)


def test_what_was_generated_before_an_interruption_is_prefilled_with_the_prompt() -> None:
    subject = decoding(1, 2, 3)
    subject.interrupt()
    assert subject.state is SequenceState.WAITING
    assert subject.prefill == (*PROMPT, 1, 2, 3)
    assert (subject.num_computed, subject.remaining_answer) == (0, 1)
    subject.restored(10)
    # What the caller is told was found for the prompt, when it began.
    assert subject.num_cached == 0
    assert subject.remaining_prefill == 1
    subject.prefilled(1)
    subject.decoded(4)
    assert subject.computed_tokens(6, 12) == (106, 107, 1, 2, 3, 4)


def test_an_interruption_while_blocks_are_read_leaves_the_beginning_to_come() -> None:
    subject = sequence()
    subject.move(SequenceState.LOADING)
    subject.interrupt()
    subject.restored(5)
    assert subject.num_cached == 5


@pytest.mark.parametrize("state", [SequenceState.WAITING, SequenceState.FINISHED])
def test_who_is_not_in_work_cannot_be_interrupted(state: SequenceState) -> None:
    with pytest.raises(IllegalTransitionError):
        sequence(state).interrupt()


def test_requests_of_one_agent_are_one_party_and_others_are_their_own() -> None:
    def of(number: int, agent: str | None, tenant: str = "default") -> Sequence:
        key = None if agent is None else AgentKey(agent)
        params = SamplingParams()
        return Sequence(SequenceId(number), PROMPT, params, 4, agent=key, tenant=TenantId(tenant))

    assert of(1, "a").party == of(2, "a").party
    assert of(1, "a").party != of(2, "b").party
    assert of(1, "a").party != of(2, "a", "other").party
    assert of(1, None).party != of(2, None).party


class SequenceMachine(RuleBasedStateMachine):
    """Any order of calls: counters never disagree, and nothing leaves the end."""

    def __init__(self) -> None:
        super().__init__()
        self.subject = sequence()

    @precondition(lambda self: self.subject.state is SequenceState.WAITING)
    @rule()
    def load(self) -> None:
        self.subject.move(SequenceState.LOADING)

    @precondition(lambda self: self.subject.state in {SequenceState.WAITING, SequenceState.LOADING})
    @rule(num_tokens=st.integers(0, len(PROMPT) - 1))
    def restore(self, num_tokens: int) -> None:
        self.subject.restored(num_tokens)

    @precondition(lambda self: self.subject.state is SequenceState.PREFILL)
    @rule(data=st.data())
    def prefill(self, data: st.DataObject) -> None:
        self.subject.prefilled(data.draw(st.integers(1, self.subject.remaining_prefill)))

    @precondition(lambda self: self.subject.state is SequenceState.DECODE)
    @rule(token=st.integers(0, 50))
    def decode(self, token: int) -> None:
        self.subject.decoded(token)

    @precondition(
        lambda self: self.subject.state not in {SequenceState.WAITING, SequenceState.FINISHED}
    )
    @rule()
    def interrupt(self) -> None:
        self.subject.interrupt()

    @precondition(lambda self: self.subject.state is not SequenceState.FINISHED)
    @rule()
    def finish(self) -> None:
        self.subject.move(SequenceState.FINISHED)

    @precondition(lambda self: self.subject.state is SequenceState.FINISHED)
    @rule(state=st.sampled_from(SequenceState))
    def stay_finished(self, state: SequenceState) -> None:
        with pytest.raises(IllegalTransitionError):
            self.subject.move(state)

    @invariant()
    def counters_agree(self) -> None:
        subject = self.subject
        assert 0 <= subject.num_cached < subject.num_prompt
        assert subject.interrupted or subject.num_cached <= subject.num_computed
        assert subject.num_computed <= subject.num_prompt + len(subject.generated)
        if subject.state is SequenceState.DECODE:
            assert subject.num_computed == subject.num_prompt + len(subject.generated)
        tokens = subject.computed_tokens(0, subject.num_computed)
        assert tokens == (*PROMPT, *subject.generated)[: subject.num_computed]


TestSequenceMachine = SequenceMachine.TestCase
TestSequenceMachine.settings = settings(max_examples=50, stateful_step_count=20)
