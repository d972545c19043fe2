"""What goes to disk, and when.

What an agent is remembered by is written at once. What nobody names mostly comes once and would
only wear the disk: it stays in memory, and is written when it is seen a second time, whether it was
found or had to be computed again. Invariant: with a block all that it builds on is written.
"""

from dataclasses import replace

from semantic.application.chain import Chain
from semantic.application.kept_parts import KeptParts
from semantic.application.sightings import Sightings
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import PUBLIC, BlockKey
from semantic.domain.sequence import Sequence
from semantic.ports.telemetry import Telemetry


class DiskAdmission:
    """Decides for the blocks of one namespace. Owned by the engine's thread."""

    def __init__(
        self, parts: KeptParts, writes: WriteBehind, root: BlockKey, telemetry: Telemetry
    ) -> None:
        self._parts = parts
        self._writes = writes
        self._root = root
        self._telemetry = telemetry
        self._sightings = Sightings()

    def is_to_last(self, chain: Chain, key: BlockKey) -> bool:
        """Whether a block that was computed is worth a place on disk: once nobody names is not."""
        again = key not in chain.seen and self._sightings.note(key)
        chain.seen.add(key)
        return chain.named or again

    def write_chain(self, sequence: Sequence, chain: Chain) -> bool:
        """Have all the blocks written that a chain consists of; False if one cannot be.

        So what an agent is remembered by does not stand on blocks that only memory knows.
        """
        parent = self._root
        for place, key in enumerate(chain.keys):
            if not self._parts.rests(PartId(key, PartKind.FULL)):
                start = place * BLOCK_SIZE
                tokens = sequence.computed_tokens(start, start + BLOCK_SIZE)
                tenant = PUBLIC if place < chain.public else sequence.tenant
                header = BlockHeader(
                    key, parent, self._parts.namespace, PartKind.FULL, start, tokens, tenant
                )
                if not self._parts.write(header):
                    return False
            parent = key
        return True

    def write_what_came_back(self, sequence: Sequence, chain: Chain) -> None:
        """Have the blocks written with which a sequence began: they were wanted a second time.

        Its own: what is public is written by who publishes it.
        """
        came_back = [use for use in chain.came_back if not use.public or sequence.tenant == PUBLIC]
        whole = [use for use in came_back if use.length == BLOCK_SIZE]
        if len(whole) < len(came_back):
            last = came_back[-1]
            header = self._parts.index.header(last.key)
            # Of a block that was used in part only, something else came back.
            if header is not None and len(header.tokens) == last.length:
                whole.append(last)
        for use in whole:
            for part in use.ids:
                if not self._write_part(part):
                    return

    def warn_of(self, header: BlockHeader) -> None:
        """A part that was to be written could not be."""
        if self._writes.writing:  # else the reason has been told, once
            self._telemetry.warning(
                "block_kept_in_memory_only", key=header.key, part=header.kind.value
            )

    def _write_part(self, part: PartId) -> bool:
        """Have a part of a block written that is known; whether it rests on disk."""
        if self._parts.rests(part):
            return True
        header = self._parts.index.header(part.key)
        if header is None or part not in self._parts.index:
            return False
        return self._parts.write(replace(header, kind=part.kind))
