"""The port `StoreSpace` over blocks in memory: a disk of any size, as full as the test says."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.fakes.memory_block_store import MemoryBlockStore

from semantic.domain.block import PartId
from semantic.domain.eviction import KeptPart
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.store_space import DiskRoom


@dataclass
class ScriptedSpace:
    """`others` are bytes in the store beside blocks; `gone` what the sweep will tell."""

    blocks: MemoryBlockStore
    free: int = 1 << 40
    total: int = 1 << 41
    quarantine: int = 0
    others: int = 0
    written: int = 0
    gone: list[PartId] = field(default_factory=list)
    uses: dict[BlockKey, float] = field(default_factory=dict)
    moment: float = 0.0

    def usage(self) -> int:
        return sum(one.nbytes for one in self.kept()) + self.quarantine + self.others

    def disk(self) -> DiskRoom:
        return DiskRoom(self.free, self.total)

    def kept(self) -> Iterator[KeptPart]:
        for (namespace, part), found in tuple(self.blocks._parts.items()):
            header = found.header
            used = self.uses.get(header.key, 0.0)
            size = (header.start, len(header.tokens), found.nbytes, used)
            yield KeptPart(namespace, part, header.parent, *size)

    def clear_quarantine(self, wanted: int, unused_since: float = math.inf) -> int:
        del unused_since
        freed = self.quarantine if wanted > 0 else 0
        self.quarantine -= freed
        return freed

    def used(self, namespace: Namespace, keys: Sequence[BlockKey]) -> None:
        del namespace
        self.moment += 1
        self.uses |= dict.fromkeys(keys, self.moment)

    def written_today(self) -> int:
        return self.written

    def wrote(self, nbytes: int) -> None:
        self.written += nbytes

    def sweep(self) -> Iterator[tuple[PartId, ...]]:
        while self.gone:
            yield (self.gone.pop(0),)
