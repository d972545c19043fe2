"""What of a conversation is not worth keeping any longer.

Each turn leaves resume points behind, and sliding parts that only they see. Of the points the last
ones stay, where the conversation goes on or is asked again, and the end of its system prompt, where
others begin. Decides; touches nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from semantic.domain.block import PartId, PartKind
from semantic.domain.block_hash import TenantKeys
from semantic.domain.ids import TokenId
from semantic.domain.prefix_index import PrefixIndex, ResumePoint


@dataclass(frozen=True, slots=True)
class Thinning:
    """`points` can be forgotten; `unseen` sliding parts need not rest on disk."""

    points: tuple[ResumePoint, ...] = ()
    unseen: tuple[PartId, ...] = ()


def thinned(
    index: PrefixIndex,
    tokens: Sequence[TokenId],
    mine: TenantKeys,
    *,
    limit: int,
    system_end: int,
    marks: Sequence[int],
) -> Thinning:
    """What a tenant gives up along `tokens`, so that `limit` resume points are left (at least one).

    `marks` are positions at which points were just taken: one on a block boundary leaves no tail
    to know it by.
    """
    if index.rule.anywhere:
        return Thinning()
    points = index.resume_points(tokens, mine)
    others = [point for point in points if point.end != system_end]
    room = max(1, limit - (len(points) - len(others)))
    surplus = others[: max(0, len(others) - room)]
    ends = {point.end for point in points if point not in surplus}
    ends.update(marks, (system_end, len(tokens)), index.branch_ends(tokens, mine))
    unseen = [
        part
        for key, at in index.whole_blocks(tokens, mine)
        if (part := PartId(key, PartKind.SLIDING)) in index
        and not any(at <= end and at > index.rule.first_seen(end) for end in ends)
    ]
    return Thinning(tuple(surplus), tuple(unseen))
