"""What the running batches take of the memory for KV, asked for before it is used.

Invariant: what is claimed is what the batches may take at most: their rows with room to grow, the
copies that are made when one joins or leaves, and one block that is being sealed. Who cannot have
that does not begin; who cannot grow makes the last who came give way. Owned by the engine's thread.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from semantic.application.kv_cache import KvCache
from semantic.application.scheduler import Scheduler
from semantic.domain.batch_layout import Place, RowCost
from semantic.domain.block_pool import Holder
from semantic.domain.errors import PoolExhaustedError
from semantic.domain.ids import SequenceId
from semantic.domain.sequence import Sequence


def most_tokens(cost: RowCost, block_bytes: int, budget: int, limit: int) -> int:
    """Tokens that one sequence may have at most, alone in the budget; none beyond `limit`."""
    return bisect_right(
        range(1, limit + 1), budget - block_bytes, key=lambda tokens: cost((tokens,))
    )


class KvMemory:
    """Claims memory for what the scheduler has in work, beside what `cache` keeps."""

    def __init__(self, cache: KvCache, scheduler: Scheduler) -> None:
        self._cache = cache
        self._parts = cache.parts
        self._gauge = cache.gauge
        self._scheduler = scheduler
        self._block_bytes = cache.block_bytes

    def place(self, sequence: Sequence, *, alone: bool, restoring: int = 0) -> Place | None:
        """Where a sequence's row could go now; None: it has to wait.

        `restoring`: bytes of blocks that are there beside the row until it is filled from them.
        """
        for place in self._scheduler.places(sequence, alone=alone):
            nbytes = self._with_sealing(place.nbytes) + restoring
            if self._parts.can_claim(Holder.RUNNING, nbytes):
                return place
        return None

    @property
    def is_awaited(self) -> bool:
        """Whether memory comes back by itself: something is being read."""
        return self._parts.pool.claimed(Holder.READING) > 0

    @contextmanager
    def begun(self, sequence: Sequence, place: Place, *, alone: bool) -> Iterator[None]:
        """Take a sequence into work, and meanwhile keep the blocks that it may begin with.

        Raises:
            PoolExhaustedError: if there is no memory for it; ask `place` first.
        """
        nbytes = self._with_sealing(place.nbytes)
        uses = self._cache.match(sequence.prefill, sequence.tenant)
        held = tuple(part for use in uses for part in use.ids if self._parts.is_hot(part))
        self._parts.pin(held)
        if not self._parts.can_claim(Holder.RUNNING, nbytes):
            self._parts.unpin(held)
            held = ()
        try:
            self._parts.claim(Holder.RUNNING, nbytes)
            self._scheduler.add(sequence, place, alone=alone)
            yield
        finally:
            self._parts.unpin(held)

    def grow(self, give_way: Callable[[SequenceId], None]) -> None:
        """Have room for the next token of all; `give_way` takes a sequence out of work.

        Raises:
            PoolExhaustedError: if the last that is left cannot have it.
        """
        while True:
            rooms, nbytes = self._scheduler.growth()
            if not rooms:
                return
            try:
                self._parts.claim(Holder.RUNNING, self._with_sealing(nbytes))
            except PoolExhaustedError:
                last = self._scheduler.last_come()
                if last is None:
                    raise
                self._gauge.preempted()
                give_way(last)
            else:
                self._scheduler.grow(rooms)
                return

    def settle(self) -> None:
        """Something has left: hold no more than is needed."""
        self._parts.claim(Holder.RUNNING, self._with_sealing(self._scheduler.nbytes))

    def look(self) -> None:
        """A turn has ended: have it seen from outside how things are."""
        self._gauge.look(
            in_work=len(self._scheduler),
            batches=len(self._scheduler.batches),
            waiting=self._scheduler.num_waiting,
        )

    def _with_sealing(self, nbytes: int) -> int:
        return nbytes + self._block_bytes if nbytes else 0
