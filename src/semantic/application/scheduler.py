"""What the engine does next. Decides; touches nothing.

Decoding sequences come first, one token each; then one chunk of prefill, large while nobody
else decodes and small otherwise, so that a long prompt does not stall the others' answers.
Sequences are served in the order in which they came.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import SequenceId
from semantic.domain.sequence import Sequence, SequenceState
from semantic.domain.step_plan import PrefillChunk, StepPlan, next_chunk


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """`max_batch` sequences are in work at once; chunks are in tokens."""

    max_batch: int
    chunk_alone: int
    chunk_shared: int


class Scheduler:
    """The sequences that are in work."""

    def __init__(self, limits: SchedulerLimits) -> None:
        self._limits = limits
        self._sequences: dict[SequenceId, Sequence] = {}

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def has_room(self) -> bool:
        """Whether one more sequence may start."""
        return len(self._sequences) < self._limits.max_batch

    def add(self, sequence: Sequence) -> None:
        """Take a sequence into work.

        Raises:
            ValueError: if there is no room; ask `has_room` first.
        """
        if not self.has_room:
            raise ValueError(f"{self._limits.max_batch} sequences are in work already")
        self._sequences[sequence.id] = sequence

    def remove(self, sequence: SequenceId) -> None:
        """A sequence has ended; unknown ones are ignored."""
        self._sequences.pop(sequence, None)

    def plan(self) -> StepPlan:
        """The next step; empty if every sequence waits for something else."""
        decode = tuple(self._in_state(SequenceState.DECODE))
        head = next(self._in_state(SequenceState.PREFILL), None)
        if head is None:
            return StepPlan(decode)
        return StepPlan(decode, self._chunk(self._sequences[head], alone=not decode))

    def _in_state(self, state: SequenceState) -> Iterator[SequenceId]:
        return (key for key, sequence in self._sequences.items() if sequence.state is state)

    def _chunk(self, sequence: Sequence, *, alone: bool) -> PrefillChunk:
        budget = self._limits.chunk_alone if alone else self._limits.chunk_shared
        start = sequence.num_computed
        length = next_chunk(start, sequence.stretch, budget, BLOCK_SIZE)
        return PrefillChunk(
            sequence=sequence.id,
            tokens=sequence.prompt[start : start + length],
            last=length == sequence.remaining_prompt,
        )
