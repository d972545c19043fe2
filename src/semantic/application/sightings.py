"""Which blocks have been seen lately, whether or not they are still there.

Most of what nobody names comes once (compare S3-FIFO's ghost queue, doi:10.1145/3600006.3613147).
"""

from collections import OrderedDict

from semantic.domain.ids import BlockKey

_REMEMBERED = 16_384
"""Keys, of some 200 bytes each: 4 million tokens."""


class Sightings:
    """The last blocks that were computed, the oldest forgotten first."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._seen: OrderedDict[BlockKey, None] = OrderedDict()

    def note(self, key: BlockKey) -> bool:
        """Count a block as seen now; whether it was before."""
        before = key in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        return before
