"""From which positions a cache can be continued, and what must be there for it.

Full attention can be continued anywhere. A layer with a window needs the tokens it still sees:

    |--- block ---|--- block ---|--- block ---|
                       |<- window - 1 tokens ->|position

and a recurrent layer the state that was taken at exactly that position.
"""

from dataclasses import dataclass

from semantic.domain.block import PartKind


@dataclass(frozen=True, slots=True)
class ResumeRule:
    """What a model's layers ask for. `windows` are those of its sliding layers, smallest first."""

    windows: tuple[int, ...] = ()
    recurrent: bool = False

    @property
    def anywhere(self) -> bool:
        """Whether the tokens' KV is all it takes, wherever that ends."""
        return not self.windows and not self.recurrent

    @property
    def extras(self) -> tuple[PartKind, ...]:
        """The parts that a block has beside its full attention."""
        sliding = (PartKind.SLIDING,) if self.windows else ()
        return (*sliding, PartKind.STATE) if self.recurrent else sliding

    def inside(self, length: int) -> bool:
        """Whether the first tokens of a block of `length` serve without its last ones."""
        if self.recurrent:
            return False
        # The part of a smaller window begins later than the block: what lies before is gone.
        return not self.windows or self.windows[0] > length

    def first_seen(self, position: int) -> int:
        """Where the stretch begins that sliding layers still see from `position` on."""
        return max(0, position - (self.windows[-1] - 1)) if self.windows else position

    def needed(self, end: int, position: int) -> tuple[PartKind, ...]:
        """The extra parts of a block used up to `end` that going on from `position` takes.

        They are those that reach into the windows, and at `position` itself the state.
        """
        sliding = (PartKind.SLIDING,) if self.windows and end > self.first_seen(position) else ()
        state = (PartKind.STATE,) if self.recurrent and end == position else ()
        return (*sliding, *state)


def resume_marks(
    rule: ResumeRule, num_prompt: int, system_end: int, interval: int
) -> tuple[int, ...]:
    """Positions of a prompt at which a chunk must end, so that a resume point can be taken there.

    They are the end of what other conversations begin with, too, the position before the last
    prompt token, from which the same question can be answered again, and with recurrent layers
    every `interval` tokens. None where any position will do.
    """
    if rule.anywhere:
        return ()
    marks = {system_end, num_prompt - 1}
    if rule.recurrent:
        marks.update(range(interval, num_prompt, interval))
    return tuple(sorted(mark for mark in marks if 0 < mark < num_prompt))
