"""Where one sequence's positions lie inside mlx-lm's batch caches, and how to cut them out.

Owns the one accessor that honours padding, offset and ring order, pinned by contract tests. A
model's caches are seen as leaves: a layer that keeps a list of caches counts once for each.

    full     |left padding|p0 p1 ...         |room|          the last position ends at `_idx`
    sliding  the same, of the last positions only; once rotated it is a ring:
             |p8 p9|p4 p5 p6 p7|                             `_idx` is where the oldest begins

Where parts are quantised, what a sequence was restored from is never quantised again: rounding what
was rounded would drift. Its rows are taken from the parts that they came from.

    |<- whole blocks ->|<- rows of a part ->|<- quantised when sealed ->|
    0               first                  end                      computed
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import ArraysCache, BatchKVCache, BatchRotatingKVCache, CacheList

from semantic.adapters.outbound.mlx.kv_part import KVPart, quantize, quantized
from semantic.domain.block import PartKind
from semantic.domain.cache_spec import AttentionLayer, ModelCacheSpec
from semantic.domain.errors import EngineError

Cache: TypeAlias = Any
"""One of mlx-lm's caches, which are untyped."""


def leaves(caches: Iterable[Cache]) -> Iterator[Cache]:
    """The caches of all layers, those in lists one by one."""
    for cache in caches:
        if isinstance(cache, CacheList):
            yield from leaves(cache.caches)
        else:
            yield cache


class Begun(NamedTuple):
    """The block within which a restored sequence goes on: first..end came from these parts."""

    first: int
    end: int
    full: KVPart | None = None
    sliding: KVPart | None = None

    def rows(
        self, name: str, layer: AttentionLayer, kind: PartKind, positions: range
    ) -> dict[str, mx.array]:
        """Those positions as they were quantised, of all layers of that shape."""
        part = self.full if kind.begins else self.sliding
        if part is None:
            raise EngineError(f"a sequence went on without the {kind.value} part of its block")
        before = self.first + part.num_tokens - layer.kept_of(part.num_tokens)
        rows = slice(positions.start - before, positions.stop - before)
        return {one: part.arrays[one][:, :, :, rows] for one in quantized(name)}


NOT_RESTORED = Begun(0, 0)


class SequenceCaches:
    """One row of a batch's caches, which hold the first `computed` tokens of a sequence.

    Raises:
        EngineError: if they do not hold exactly these.
    """

    def __init__(
        self,
        caches: Sequence[Cache],
        row: int,
        computed: int,
        spec: ModelCacheSpec,
        begun: Begun = NOT_RESTORED,
    ) -> None:
        self._leaves = list(leaves(caches))
        self._row = row
        self._computed = computed
        self._spec = spec
        self._begun = begun
        attention = [leaf for leaf in self._leaves if not isinstance(leaf, ArraysCache)]
        offsets = {_number(leaf.offset, row) for leaf in attention[:1] + attention[-1:]}
        sizes = {_end(leaf) for leaf in attention if isinstance(leaf, BatchKVCache)}
        if offsets - {computed} or len(sizes) > 1:
            # Seen after an exception in mid-prefill (engine facts): such KV must never be kept.
            raise EngineError(f"{computed} tokens went in, and not all layers hold their KV")

    def cut(self, start: int, end: int, kind: PartKind) -> KVPart | None:
        """Copy a part of the block start..end.

        None if the caches have moved on, or if it would quantise again what a block holds. The
        copy is evaluated: it depends on nothing that later steps change.
        """
        if self._spec.quantization and kind is not PartKind.STATE and start < self._begun.first:
            return None
        arrays: dict[str, mx.array] = {}
        for group, (layer, places) in enumerate(self._spec.groups(kind)):
            members = [self._leaves[place] for place in places]
            if isinstance(layer, AttentionLayer):
                positions = range(end - layer.kept_of(end - start), end)
                if self._stretches(members[0], positions) is None:
                    return None
                pairs = zip(*(member.keys_and_values() for member in members), strict=True)
                for name, buffers in zip(("keys", "values"), pairs, strict=True):
                    rows = _Rows(f"{name}.{group}", layer, kind, members[0], buffers)
                    arrays |= self._kept(rows, positions)
            elif end != self._computed:
                return None
            else:
                row = slice(self._row, self._row + 1)
                for number in range(len(layer.arrays)):
                    states = [member[number][row] for member in members]
                    arrays[f"state.{group}.{number}"] = _packed(states)
        mx.eval(list(arrays.values()))
        return KVPart(kind, end - start, arrays, self._spec.quantization)

    def _kept(self, rows: "_Rows", positions: range) -> dict[str, mx.array]:
        """Those positions of a group's keys or values, quantised or as they are."""
        quantization = self._spec.quantization
        if quantization is None:
            return {rows.name: self._copied(rows, positions)}
        before, after = _split(positions, self._begun.end)
        pieces = []
        if before:
            pieces.append(self._begun.rows(rows.name, rows.layer, rows.kind, before))
        if after:
            pieces.append(quantize(rows.name, self._copied(rows, after), quantization))
        return {
            name: mx.contiguous(mx.concatenate([piece[name] for piece in pieces], axis=3))
            for name in quantized(rows.name)
        }

    def _copied(self, rows: "_Rows", positions: range) -> mx.array:
        """Those positions as they lie in the buffers, which hold them."""
        stretches = self._stretches(rows.cache, positions) or ()
        return _packed([_taken(buffer, self._row, stretches) for buffer in rows.buffers])

    def _stretches(self, cache: Cache, positions: range) -> tuple[slice, ...] | None:
        """Where the positions lie in the buffer, in order; None if they do not.

        In temporal order the buffer's `length` columns end with position `computed` - 1.
        """
        ring = isinstance(cache, BatchRotatingKVCache) and cache.rotated
        length = cache.keys.shape[2] if ring else _end(cache)
        ahead = length - self._computed
        first = positions.start + ahead
        if first < max(0, _number(cache.left_padding, self._row)):
            return None
        if not ring:
            return (slice(first, first + len(positions)),)
        begin = (first + _end(cache)) % length
        stop = begin + len(positions)
        if stop <= length:
            return (slice(begin, stop),)
        return (slice(begin, length), slice(0, stop - length))


class _Rows(NamedTuple):
    """The keys or the values of a group's layers, each in a buffer laid out as `cache` says."""

    name: str
    layer: AttentionLayer
    kind: PartKind
    cache: Cache
    buffers: Sequence[mx.array]


def _split(positions: range, at: int) -> tuple[range, range]:
    """Those before `at`, and the others."""
    middle = min(max(positions.start, at), positions.stop)
    return range(positions.start, middle), range(middle, positions.stop)


def _taken(array: mx.array, row: int, stretches: tuple[slice, ...]) -> mx.array:
    pieces = [array[row : row + 1, :, stretch] for stretch in stretches]
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=2)


def _packed(pieces: list[mx.array]) -> mx.array:
    # The stack of a single slice is a view, which would hold the whole buffer in memory.
    return mx.contiguous(mx.stack(pieces))


def _number(array: mx.array, row: int) -> int:
    return int(np.array(array)[row])


def _end(cache: Cache) -> int:
    """Where the newest column ends in the buffer."""
    return int(cache._idx)  # noqa: SLF001 - mlx-lm has no other name for it; pinned by a test
