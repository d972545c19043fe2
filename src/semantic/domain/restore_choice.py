"""Up to which position a prompt is restored from the disk, and from where it is recomputed.

Restoring costs the bytes that have to be read, recomputing the tokens that are left:

    |--- hot ---|--- cold ---|--- cold ---|- new -|
    0           ^            ^ position   ^ all that is known
                |<- read ---------------->|        restoring everything
                |<- read --->|<------ compute ---->|        restoring up to `position`

A prefix must be whole, so a cold block behind a recomputed one is of no use: the choice is how far
to go. Both ways give right answers; only their time differs. Decides; touches nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from semantic.domain.block import PartId
from semantic.domain.prefix_index import BlockUse
from semantic.domain.resume import ResumeRule

LEAST_SAVING_S = 0.1
LEAST_SPEEDUP = 1.5
"""What recomputing must at least save. Both rates are estimates, and small models compute in no
time what is worth keeping all the same: a little gain is none."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured: bytes and tokens a second, and seconds that reading takes besides.

    `bytes_ahead` are to be read before anything that is asked for now.
    """

    read_bytes: float
    prefill_tokens: float
    latency_s: float = 0.0
    bytes_ahead: int = 0


@dataclass(frozen=True, slots=True)
class Option:
    """Going on from `position`, for which `nbytes` have to be read."""

    position: int
    nbytes: int

    def seconds(self, num_tokens: int, pace: Pace) -> float:
        """How long it takes until `num_tokens` are there."""
        computing = (num_tokens - self.position) / pace.prefill_tokens
        if not self.nbytes:
            return computing
        return computing + pace.latency_s + (pace.bytes_ahead + self.nbytes) / pace.read_bytes


def options(
    uses: Sequence[BlockUse],
    rule: ResumeRule,
    known: Callable[[PartId], bool],
    to_read: Callable[[PartId], int],
) -> tuple[Option, ...]:
    """All of a matched chain, and each shorter stretch of whole blocks to go on from.

    The longest comes first, nothing at all last. `known`: whether there is such a part; `to_read`:
    its bytes, none where it is in memory.
    """
    ends = list(accumulate((use.length for use in uses), initial=0))
    nbytes = list(accumulate((to_read(use.ids[0]) for use in uses), initial=0))
    found: list[Option] = []
    for count in range(len(uses), -1, -1):
        extras = list(_extras(uses, ends, count, rule))
        if all(known(part) for part in extras):
            found.append(Option(ends[count], nbytes[count] + sum(map(to_read, extras))))
    return tuple(found)


def fastest(found: Sequence[Option], num_tokens: int, pace: Pace) -> Option:
    """The option that is there first; the longest unless another is clearly faster.

    `found` is as `options` gives it. Of options that take equally long the longer one wins.
    """
    longest = found[0]
    best = min(found, key=lambda option: option.seconds(num_tokens, pace))
    slow, fast = longest.seconds(num_tokens, pace), best.seconds(num_tokens, pace)
    clearly = slow - fast >= LEAST_SAVING_S and slow >= LEAST_SPEEDUP * fast
    return best if clearly else longest


def _extras(
    uses: Sequence[BlockUse], ends: Sequence[int], count: int, rule: ResumeRule
) -> Iterator[PartId]:
    """What going on from the end of the first `count` blocks takes besides their full attention."""
    for place in range(count, 0, -1):
        needed = rule.needed(ends[place], ends[count])
        if not needed:
            return  # what lies further back is out of sight, too
        yield from (PartId(uses[place - 1].key, kind) for kind in needed)
