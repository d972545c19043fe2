"""Which sequences decode together, and the bytes that takes.

A batch is as wide as its longest row, so a short one beside a long one is mostly padding, which
costs memory and is read with every token. A batch of its own costs the weights being read once
more. A row joins where it pads less than that.

    |xxxxxxxxxxxxxxxx|      |xxxxxxxxxxxxxxxx|
    |xxxx............|      |xxxx|
      one batch               two

Knows no arrays: the engine says what rows cost.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from semantic.domain.ids import SequenceId

RowCost = Callable[[Sequence[int]], int]
"""Bytes at most of a batch whose rows hold so many tokens each."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row goes: into the batch of `partner`, or into one of its own; all bytes then."""

    partner: SequenceId | None
    nbytes: int


@dataclass(slots=True)
class _Batch:
    """Rows by the tokens that there is room for. Nobody joins one that is `closed`."""

    rows: dict[SequenceId, int]
    closed: bool = False


class BatchLayout:
    """The batches in work, of `max_rows` rows in all. `cost` of none is nothing."""

    def __init__(self, cost: RowCost, padding_limit: int) -> None:
        self._cost = cost
        self._padding_limit = padding_limit
        self._batches: list[_Batch] = []

    def __contains__(self, sequence: SequenceId) -> bool:
        return any(sequence in batch.rows for batch in self._batches)

    @property
    def nbytes(self) -> int:
        """Bytes of all batches."""
        return sum(self._bytes(batch.rows.values()) for batch in self._batches)

    @property
    def batches(self) -> tuple[tuple[SequenceId, ...], ...]:
        """Who decodes with whom."""
        return tuple(tuple(batch.rows) for batch in self._batches)

    def room(self, sequence: SequenceId) -> int:
        """Tokens that there is room for in its row."""
        return self._batch(sequence).rows[sequence]

    def places(self, tokens: int, *, alone: bool = False) -> tuple[Place, ...]:
        """Where a row of so many tokens could go, the best first; `alone`: with nobody."""
        now = self.nbytes
        own = self._bytes((tokens,))
        apart = Place(None, now + own)
        best: tuple[int, Place] | None = None
        for batch in () if alone else self._batches:
            if batch.closed:
                continue
            joined = self._bytes((*batch.rows.values(), tokens))
            padding = joined - self._bytes(batch.rows.values()) - own
            if padding <= self._padding_limit and (best is None or padding < best[0]):
                best = (padding, Place(next(iter(batch.rows)), now + own + padding))
        return (best[1], apart) if best else (apart,)

    def put(
        self, sequence: SequenceId, tokens: int, partner: SequenceId | None, *, alone: bool = False
    ) -> None:
        """Add a row as one of `places` said."""
        if partner is None:
            self._batches.append(_Batch({sequence: tokens}, closed=alone))
        else:
            self._batch(partner).rows[sequence] = tokens

    def grown(self, rooms: dict[SequenceId, int]) -> int:
        """Bytes of all batches if these rows had room for so many tokens."""
        return sum(
            self._bytes(rooms.get(key, tokens) for key, tokens in batch.rows.items())
            for batch in self._batches
        )

    def grow(self, rooms: dict[SequenceId, int]) -> None:
        """Make it so."""
        for sequence, tokens in rooms.items():
            self._batch(sequence).rows[sequence] = tokens

    def remove(self, sequence: SequenceId) -> None:
        """A row has gone; unknown ones are ignored."""
        for batch in self._batches:
            batch.rows.pop(sequence, None)
        self._batches = [batch for batch in self._batches if batch.rows]

    def beside(self, sequence: SequenceId) -> tuple[SequenceId, ...]:
        """The other rows of its batch."""
        return tuple(key for key in self._batch(sequence).rows if key != sequence)

    def _batch(self, sequence: SequenceId) -> _Batch:
        return next(batch for batch in self._batches if sequence in batch.rows)

    def _bytes(self, rows: Iterable[int]) -> int:
        return self._cost(tuple(rows))
