"""Prompts that begin alike are computed once.

Who comes while another computes the beginning of its own prompt waits for that one: its blocks are
found as soon as they are sealed. If the other does not get there, whoever waited goes on from what
there is, and the rest wait for that one in turn.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from semantic.application.engine_job import Following, Job
from semantic.application.kv_cache import KvCache
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import TokenId
from semantic.domain.prefix_index import common_length
from semantic.domain.sequence import Sequence, SequenceState

_COMPUTING = (SequenceState.LOADING, SequenceState.PREFILL)


@dataclass(frozen=True, slots=True)
class _Lead:
    """Another computes the first `position` tokens of a prompt."""

    job: Job
    position: int


class FanOut:
    """Decides who waits for whom. Owned by the engine's thread."""

    def __init__(self, cache: KvCache) -> None:
        self._cache = cache

    @staticmethod
    def waits(job: Job) -> bool:
        """Whether what a job follows is still on its way."""
        following = job.following
        if following is None:
            return False
        leader = following.leader.sequence
        if leader.state in _COMPUTING and leader.num_computed < following.position:
            return True
        job.following = None
        return False

    def follow(self, job: Job, others: Iterable[Job]) -> bool:
        """Have a job wait if one of the others computes what it would compute itself."""
        lead = None if job.scores_prompt else self._lead(job.sequence, others)
        if lead is None:
            return False
        job.following = Following(lead.job, lead.position)
        self._cache.mark(lead.job.sequence, lead.position)
        return True

    def _lead(self, sequence: Sequence, others: Iterable[Job]) -> _Lead | None:
        known: int | None = None
        best: _Lead | None = None
        for other in others:
            position = _shared(sequence, other.sequence)
            if position <= (best.position if best else 0):
                continue
            known = self._cache.known(sequence) if known is None else known
            if position - known >= BLOCK_SIZE:
                best = _Lead(other, position)
        return best


def _shared(sequence: Sequence, other: Sequence) -> int:
    """The last block boundary up to which `other` will have computed what `sequence` needs."""
    if other.state not in _COMPUTING or other.tenant != sequence.tenant:
        return 0
    # At least one token is always left to compute.
    common = _common(sequence.prefill[:-1], other.prefill)
    position = common // BLOCK_SIZE * BLOCK_SIZE
    return position if position > other.num_computed else 0


def _common(left: tuple[TokenId, ...], right: tuple[TokenId, ...]) -> int:
    """Number of leading tokens that two prompts share, whole blocks at a time."""
    for start in range(0, min(len(left), len(right)), BLOCK_SIZE):
        end = start + BLOCK_SIZE
        if left[start:end] != right[start:end]:
            return start + common_length(left[start:end], right[start:end])
    return min(len(left), len(right))
