"""What the engine does next. Decides; touches nothing.

Decoding sequences come first, one token each; then one chunk of prefill: large while nobody
decodes, and otherwise what can be computed before those who decode would notice. Agents take turns
at prefill: next is whose agent was given least. While nobody decodes yet, prompts that are read
together begin to be answered together, as far as that keeps nobody waiting for much longer: one
answer alone would slow down the reading of all the others. Who came last makes room when memory is
short, so that the oldest always gets on.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from semantic.domain.batch_layout import BatchLayout, Place, RowCost
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.fair_share import FairShare
from semantic.domain.ids import SequenceId
from semantic.domain.sequence import Sequence as Running
from semantic.domain.sequence import SequenceState
from semantic.domain.step_pace import StepPace
from semantic.domain.step_plan import PrefillChunk, StepPlan, next_chunk

_HEADROOM = BLOCK_SIZE
"""Tokens of an answer that a row has room for beforehand: memory is asked for once a block."""

_HOLD = 1.0
"""Times what was prefilled since a prompt came: so much longer it may wait for others."""


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """`max_batch` sequences are in work at once; chunks are in tokens.

    Who decodes shall not wait longer than `stall_s` for a token.
    """

    max_batch: int
    chunk_alone: int
    chunk_shared: int
    stall_s: float = math.inf


def _free(_rows: Sequence[int]) -> int:
    return 0


class Scheduler:
    """The sequences that are in work, and whose turn it is of those that wait.

    `cost`: bytes of a batch; a row is not padded by more than `padding_limit` bytes.
    """

    def __init__(
        self, limits: SchedulerLimits, cost: RowCost = _free, padding_limit: int = 0
    ) -> None:
        self._limits = limits
        self._sequences: dict[SequenceId, Running] = {}
        self._arrivals: dict[SequenceId, int] = {}
        self._arrived = 0
        self._prefilled = 0
        self._came: dict[SequenceId, int] = {}
        self._read_at: dict[SequenceId, int] = {}
        self._layout = BatchLayout(cost, padding_limit)
        self._share = FairShare()
        self.pace = StepPace(limits.stall_s)

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def has_room(self) -> bool:
        """Whether one more sequence may start."""
        return len(self._sequences) < self._limits.max_batch

    @property
    def decoding(self) -> bool:
        """Whether somebody waits for a token."""
        return next(self._in_state(SequenceState.DECODE), None) is not None

    @property
    def num_waiting(self) -> int:
        """Sequences that have come, and are not in work or not any more."""
        return sum(key not in self._sequences for key in self._arrivals)

    @property
    def nbytes(self) -> int:
        """Bytes of the running batches, as they are and as they will be."""
        return self._layout.nbytes

    @property
    def batches(self) -> tuple[tuple[SequenceId, ...], ...]:
        """Who decodes with whom."""
        return self._layout.batches

    def enter(self, sequence: Running) -> None:
        """A sequence has come, to be worked on some time."""
        self._arrivals[sequence.id] = self._arrived
        self._arrived += 1
        self._came[sequence.id] = self._prefilled
        self._share.enter(sequence.party)

    def leave(self, sequence: Running) -> None:
        """It has ended; unknown ones are ignored."""
        self.remove(sequence.id)
        self._came.pop(sequence.id, None)
        self._read_at.pop(sequence.id, None)
        if self._arrivals.pop(sequence.id, None) is not None:
            self._share.leave(sequence.party)

    def order(self, waiting: Iterable[Running]) -> list[Running]:
        """Whose turn it is: who had begun already, then whose agent was given least."""
        return sorted(waiting, key=self._turn)

    def places(self, sequence: Running, *, alone: bool = False) -> tuple[Place, ...]:
        """Where its row could go, the best first."""
        return self._layout.places(_first_room(sequence), alone=alone)

    def add(self, sequence: Running, place: Place | None = None, *, alone: bool = False) -> None:
        """Take a sequence into work.

        Raises:
            ValueError: if there is no room; ask `has_room` first.
        """
        if not self.has_room:
            raise ValueError(f"{self._limits.max_batch} sequences are in work already")
        self._sequences[sequence.id] = sequence
        where = place or self.places(sequence, alone=alone)[0]
        self._layout.put(sequence.id, _first_room(sequence), where.partner, alone=alone)

    def remove(self, sequence: SequenceId) -> None:
        """A sequence is not in work any more; unknown ones are ignored."""
        if self._sequences.pop(sequence, None) is not None:
            self._layout.remove(sequence)

    def growth(self) -> tuple[dict[SequenceId, int], int]:
        """Rows whose next token needs room: for how many tokens each; bytes of all batches then."""
        rooms = {
            key: self._layout.room(key) + min(_HEADROOM, self._sequences[key].remaining_answer)
            for key in self._in_state(SequenceState.DECODE)
            if self._sequences[key].num_computed >= self._layout.room(key)
        }
        return rooms, self._layout.grown(rooms) if rooms else self.nbytes

    def grow(self, rooms: dict[SequenceId, int]) -> None:
        """Give them that room."""
        self._layout.grow(rooms)

    def last_come(self) -> SequenceId | None:
        """Who makes room for the others; None if there are no others."""
        if len(self._sequences) <= 1:
            return None
        return max(self._sequences, key=lambda key: self._arrivals.get(key, 0))

    def plan(self, spent_s: float = 0.0) -> StepPlan:
        """The next step, of whose time some has passed; empty if all wait for something else."""
        decode = tuple(self._in_state(SequenceState.DECODE))
        prefilling = [self._sequences[key] for key in self._in_state(SequenceState.PREFILL)]
        if not prefilling:
            return StepPlan(decode)
        if decode:
            budget = self.pace.chunk(self._limits.chunk_shared, spent_s)
            return StepPlan(decode, self._chunk(self._least_served(prefilling), budget))
        head, to_end = self._gathered(prefilling)
        return StepPlan(decode, self._chunk(head, self._limits.chunk_alone, to_end=to_end))

    def performed(self, plan: StepPlan, seconds: float) -> None:
        """A step of this plan took so long, with all that belongs to it."""
        prefilled = 0
        if plan.prefill is not None:
            prefilled = len(plan.prefill.tokens)
            self._charge(plan.prefill.sequence, prefilled)
            self._prefilled += prefilled
            if (sequence := self._sequences.get(plan.prefill.sequence)) is not None:
                self._read_at[sequence.id] = self._prefilled
            if plan.prefill.last:
                return  # a join takes longer, and comes once
        self.pace.measured(seconds, decoded=bool(plan.decode), prefilled=prefilled)

    def _gathered(self, prefilling: list[Running]) -> tuple[Running, bool]:
        """Whose prompt is read next, and whether to its end or with its last token left to wait."""
        unread = [one for one in prefilling if one.remaining_prefill > 1]
        ready = [one for one in prefilling if one.remaining_prefill == 1]
        if due := [one for one in ready if not self._may_wait(one, unread)]:
            return self._least_served(due), True
        head = self._least_served(unread)
        return head, not self._may_wait(head, unread)

    def _may_wait(self, sequence: Running, unread: list[Running]) -> bool:
        """Whether the others will have been read soon enough for it to wait for them."""
        ahead = sum(one.remaining_prefill for one in unread if one is not sequence)
        read = self._prefilled + sequence.remaining_prefill
        if sequence.remaining_prefill == 1:
            read = self._read_at.get(sequence.id, read)
        waited = read - self._came.get(sequence.id, read)
        return ahead > 0 and self._prefilled + ahead <= read + _HOLD * waited

    def _least_served(self, sequences: list[Running]) -> Running:
        return min(sequences, key=lambda one: self._share.turn(one.party))

    def _charge(self, key: SequenceId, tokens: int) -> None:
        if sequence := self._sequences.get(key):
            self._share.charge(sequence.party, tokens)

    def _turn(self, sequence: Running) -> tuple[bool, tuple[int, int], int]:
        share = self._share.turn(sequence.party)
        return (not sequence.interrupted, share, self._arrivals.get(sequence.id, 0))

    def _in_state(self, state: SequenceState) -> Iterator[SequenceId]:
        return (key for key, sequence in self._sequences.items() if sequence.state is state)

    def _chunk(self, sequence: Running, budget: int, *, to_end: bool = True) -> PrefillChunk:
        start = sequence.num_computed
        stretch = sequence.stretch - (not to_end and sequence.stretch == sequence.remaining_prefill)
        length = next_chunk(start, stretch, budget, BLOCK_SIZE)
        last = length == sequence.remaining_prefill
        return PrefillChunk(
            sequence=sequence.id,
            tokens=sequence.prefill[start : start + length],
            last=last,
            joins=self._partner(sequence.id) if last else None,
        )

    def _partner(self, sequence: SequenceId) -> SequenceId | None:
        """Somebody of its batch who decodes already."""
        for key in self._layout.beside(sequence):
            if self._sequences[key].state is SequenceState.DECODE:
                return key
        return None


def _first_room(sequence: Running) -> int:
    """Tokens that a row has room for at first."""
    return sequence.num_prefill + min(_HEADROOM, sequence.remaining_answer)
