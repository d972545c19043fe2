"""Where sequences can be continued from: which points are taken, and which of them stay (ADR-004).

A model that cannot be continued from just anywhere takes points at marks: what windows and states
need is written for these only. Invariant: of one conversation no more points stay than the limit
says. What is kept at a point is not known here. Owned by the engine's thread.
"""

from semantic.application.kept_parts import KeptParts
from semantic.application.write_behind import WriteBehind
from semantic.domain.block_hash import TenantKeys
from semantic.domain.resume import ResumeRule, resume_marks
from semantic.domain.sequence import Sequence
from semantic.domain.thinning import thinned


class ResumePoints:
    """The points of one model's sequences.

    A state is taken every `interval` tokens; of one conversation's points `limit` stay.
    """

    def __init__(
        self,
        rule: ResumeRule,
        parts: KeptParts,
        writes: WriteBehind,
        *,
        interval: int,
        limit: int,
    ) -> None:
        self._rule = rule
        self._parts = parts
        self._writes = writes
        self._interval = interval
        self._limit = limit

    def marks(self, sequence: Sequence) -> tuple[int, ...]:
        """Positions of its prompt at which a point is taken; see `resume_marks`."""
        return resume_marks(self._rule, sequence.num_prefill, sequence.system_end, self._interval)

    def mark(self, sequence: Sequence, position: int) -> None:
        """Have it stop at a position as well, so that another can go on from there."""
        if not self._rule.anywhere:
            sequence.marks = tuple(sorted({*sequence.marks, position}))

    def is_at(self, sequence: Sequence) -> bool:
        """Whether a sequence has come to a point that is to be taken."""
        position = sequence.num_computed
        if self._rule.recurrent and position % self._interval == 0:
            return True
        return position in sequence.marks

    def thin_out(self, sequence: Sequence, keys: TenantKeys) -> None:
        """Give up the points that are too many, and on disk what no other needs."""
        plan = thinned(
            self._parts.index,
            sequence.computed_tokens(0, sequence.num_computed),
            keys,
            limit=self._limit,
            system_end=sequence.system_end,
            marks=() if self._rule.recurrent else sequence.marks,
        )
        points = tuple(part for point in plan.points for part in point.parts)
        # Asked before they are forgotten: what never was on disk need not be deleted there.
        gone = [part for part in (*points, *plan.unseen) if self._parts.rests(part)]
        gone += [other for part in points for other in self._parts.forget(part)]
        for part in plan.unseen:
            if self._parts.rests(part):
                self._parts.keep_in_memory_only(part)
        if gone:
            self._writes.discard(self._parts.namespace, tuple(dict.fromkeys(gone)))
