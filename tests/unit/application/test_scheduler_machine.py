"""Any order of calls against a simple model: lists, and one number a party."""

from collections.abc import Sequence as Rows

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from semantic.application.scheduler import Scheduler, SchedulerLimits
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.fair_share import Party
from semantic.domain.ids import AgentKey, SequenceId
from semantic.domain.sampling import SamplingParams
from semantic.domain.sequence import Sequence, SequenceState
from semantic.domain.step_plan import StepPlan

MAX_BATCH = 4
CHUNK_ALONE, CHUNK_SHARED = 600, 100
IN_WORK = (SequenceState.LOADING, SequenceState.PREFILL, SequenceState.DECODE)


def cost(rows: Rows[int]) -> int:
    """A byte for each token of the longest row, in each row."""
    return len(rows) * max(rows, default=0)


class SchedulerMachine(RuleBasedStateMachine):
    """Sequences come, begin, are performed, give way, end."""

    def __init__(self) -> None:
        super().__init__()
        limits = SchedulerLimits(MAX_BATCH, CHUNK_ALONE, CHUNK_SHARED)
        self.scheduler = Scheduler(limits, cost, padding_limit=500)
        self.known: list[Sequence] = []  # in the order in which they came
        self.served: dict[Party, int] = {}
        self.time = 0
        self.count = 0

    def of(self, *states: SequenceState) -> list[Sequence]:
        return [sequence for sequence in self.known if sequence.state in states]

    def parties(self) -> set[Party]:
        return {sequence.party for sequence in self.known}

    @precondition(lambda self: len(self.known) < 8)
    @rule(
        agent=st.sampled_from([None, "a", "b"]),
        length=st.one_of(st.integers(1, 40), st.integers(200, 1500)),
        answer=st.integers(1, 400),
    )
    def come(self, agent: str | None, length: int, answer: int) -> None:
        self.count += 1
        key = None if agent is None else AgentKey(agent)
        sequence = Sequence(
            SequenceId(self.count), (1,) * length, SamplingParams(), answer, agent=key
        )
        if sequence.party not in self.parties():
            self.served[sequence.party] = max(self.served.get(sequence.party, 0), self.time)
        self.known.append(sequence)
        self.scheduler.enter(sequence)

    @precondition(lambda self: self.of(SequenceState.WAITING) and self.scheduler.has_room)
    @rule(suspect=st.booleans())
    def begin(self, *, suspect: bool) -> None:
        waiting = self.of(SequenceState.WAITING)
        order = self.scheduler.order(waiting)
        sequence = order[0]
        begun = [one for one in waiting if one.interrupted] or waiting
        assert sequence in begun
        assert self.served[sequence.party] == min(self.served[one.party] for one in begun)
        assert sorted(one.id for one in order) == [one.id for one in waiting]
        before = self.scheduler.nbytes
        places = self.scheduler.places(sequence, alone=suspect)
        assert places[-1].partner is None
        self.scheduler.add(sequence, places[0], alone=suspect)
        assert self.scheduler.nbytes == places[0].nbytes > before
        sequence.move(SequenceState.LOADING)

    @precondition(lambda self: self.of(SequenceState.LOADING))
    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.of(SequenceState.LOADING)))
        sequence.restored(data.draw(st.integers(0, sequence.num_prefill - 1)))

    @rule()
    def perform(self) -> None:
        plan = self.scheduler.plan()
        self.check_plan(plan)
        rooms, nbytes = self.scheduler.growth()
        assert all(self.room_needed(key) <= room for key, room in rooms.items())
        self.scheduler.grow(rooms)
        assert self.scheduler.nbytes == nbytes
        by_id = {sequence.id: sequence for sequence in self.known}
        for key in plan.decode:
            by_id[key].decoded(7)
        if plan.prefill is not None:
            sequence = by_id[plan.prefill.sequence]
            sequence.prefilled(len(plan.prefill.tokens))
            self.time = max(self.time, self.served[sequence.party])
            self.served[sequence.party] += len(plan.prefill.tokens)
        self.scheduler.performed(plan, 0.0)
        for key in plan.decode:
            if not by_id[key].remaining_answer:
                self.end(by_id[key])

    def room_needed(self, key: SequenceId) -> int:
        (sequence,) = (one for one in self.known if one.id == key)
        return sequence.num_computed + 1

    def check_plan(self, plan: StepPlan) -> None:
        decoding = self.of(SequenceState.DECODE)
        prefilling = self.of(SequenceState.PREFILL)
        assert sorted(plan.decode) == [one.id for one in decoding]
        assert (plan.prefill is not None) == bool(prefilling)
        if plan.prefill is None:
            return
        (sequence,) = (one for one in prefilling if one.id == plan.prefill.sequence)
        unread = [one for one in prefilling if one.remaining_prefill > 1]
        ready = [one for one in prefilling if one.remaining_prefill == 1]
        # While nobody decodes, those that have been read may wait for the others, but not long.
        alike = ready if sequence in ready else unread
        among = prefilling if decoding else alike
        assert self.served[sequence.party] == min(self.served[one.party] for one in among)
        length = len(plan.prefill.tokens)
        assert 1 <= length <= (CHUNK_SHARED if decoding else CHUNK_ALONE)
        end = sequence.num_computed + length
        whole = end % BLOCK_SIZE == 0
        assert whole or sequence.num_computed // BLOCK_SIZE == (end - 1) // BLOCK_SIZE
        assert plan.prefill.last == (end == sequence.num_prefill)
        if plan.prefill.joins is not None:
            (batch,) = (one for one in self.scheduler.batches if sequence.id in one)
            assert plan.prefill.joins in batch
            assert plan.prefill.joins in plan.decode

    @precondition(lambda self: self.of(*IN_WORK))
    @rule()
    def give_way(self) -> None:
        in_work = self.of(*IN_WORK)
        last = self.scheduler.last_come()
        assert last == (in_work[-1].id if len(in_work) > 1 else None)
        if last is not None:
            self.scheduler.remove(last)
            in_work[-1].interrupt()

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.known)))

    def end(self, sequence: Sequence) -> None:
        self.scheduler.leave(sequence)
        self.scheduler.leave(sequence)
        sequence.move(SequenceState.FINISHED)
        self.known.remove(sequence)

    @invariant()
    def what_is_in_work_has_its_place(self) -> None:
        in_work = self.of(*IN_WORK)
        assert len(self.scheduler) == len(in_work) <= MAX_BATCH
        assert self.scheduler.has_room == (len(in_work) < MAX_BATCH)
        placed = [key for batch in self.scheduler.batches for key in batch]
        assert sorted(placed) == [sequence.id for sequence in in_work]
        assert (self.scheduler.nbytes == 0) == (not in_work)
        assert self.scheduler.decoding == bool(self.of(SequenceState.DECODE))


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
