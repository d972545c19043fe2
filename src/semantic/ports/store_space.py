"""The disk under a store: how much of it is taken, by what, and what keeps it in order."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from semantic.domain.block import PartId
from semantic.domain.eviction import KeptPart
from semantic.domain.ids import BlockKey, Namespace


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """Bytes of the disk that a store is on: free for us, and in all."""

    free: int
    total: int


class StoreSpace(Protocol):
    """Used by the thread that writes. All of it raises CachePersistenceError if the disk fails."""

    def usage(self) -> int:
        """Allocated bytes of everything in the store, whatever it is and whoever's."""

    def disk(self) -> DiskRoom:
        """The disk it is on."""

    def kept(self) -> Iterator[KeptPart]:
        """Every part of every namespace."""

    def clear_quarantine(self, wanted: int, unused_since: float = math.inf) -> int:
        """Remove what was set aside, the oldest first, until `wanted` bytes are free; how many.

        Only what is no newer than `unused_since`, in seconds since the epoch.
        """

    def used(self, namespace: Namespace, keys: Sequence[BlockKey]) -> None:
        """Blocks have been used now."""

    def written_today(self) -> int:
        """Bytes of parts and records that were written since midnight, UTC."""

    def wrote(self, nbytes: int) -> None:
        """Count records of so many bytes among what was written today."""

    def sweep(self) -> Iterator[tuple[PartId, ...]]:
        """Remove, step by step, what no part needs; each step tells parts that turned out gone."""
