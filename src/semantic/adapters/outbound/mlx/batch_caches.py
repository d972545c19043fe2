"""Where one sequence's positions lie inside mlx-lm's batch caches, and how to cut them out.

Owns the one accessor that honours padding, offset and ring order, pinned by contract tests. A
model's caches are seen as leaves: a layer that keeps a list of caches counts once for each.

    full     |left padding|p0 p1 ...         |room|          the last position ends at `_idx`
    sliding  the same, of the last positions only; once rotated it is a ring:
             |p8 p9|p4 p5 p6 p7|                             `_idx` is where the oldest begins
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import ArraysCache, BatchKVCache, BatchRotatingKVCache, CacheList

from semantic.adapters.outbound.mlx.kv_part import KVPart
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


class SequenceCaches:
    """One row of a batch's caches, which hold the first `computed` tokens of a sequence.

    Raises:
        EngineError: if they do not hold exactly these.
    """

    def __init__(
        self, caches: Sequence[Cache], row: int, computed: int, spec: ModelCacheSpec
    ) -> None:
        self._leaves = list(leaves(caches))
        self._row = row
        self._computed = computed
        self._spec = spec
        attention = [leaf for leaf in self._leaves if not isinstance(leaf, ArraysCache)]
        offsets = {_number(leaf.offset, row) for leaf in attention[:1] + attention[-1:]}
        sizes = {_end(leaf) for leaf in attention if isinstance(leaf, BatchKVCache)}
        if offsets - {computed} or len(sizes) > 1:
            # Seen after an exception in mid-prefill (engine facts): such KV must never be kept.
            raise EngineError(f"{computed} tokens went in, and not all layers hold their KV")

    def cut(self, start: int, end: int, kind: PartKind) -> KVPart | None:
        """Copy a part of the block start..end; None if the caches have moved on.

        The copy is evaluated: it depends on nothing that later steps change.
        """
        arrays: dict[str, mx.array] = {}
        for group, (layer, places) in enumerate(self._spec.groups(kind)):
            members = [self._leaves[place] for place in places]
            if isinstance(layer, AttentionLayer):
                first = end - layer.kept_of(end - start)
                # A group's layers went through the same steps: what holds of one holds of all.
                stretches = _stretches(members[0], self._row, self._computed, first, end)
                if stretches is None:
                    return None
                pairs = zip(*(member.keys_and_values() for member in members), strict=True)
                for name, whole in zip(("keys", "values"), pairs, strict=True):
                    taken = [_taken(array, self._row, stretches) for array in whole]
                    arrays[f"{name}.{group}"] = _packed(taken)
            elif end != self._computed:
                return None
            else:
                row = slice(self._row, self._row + 1)
                for number in range(len(layer.arrays)):
                    states = [member[number][row] for member in members]
                    arrays[f"state.{group}.{number}"] = _packed(states)
        mx.eval(list(arrays.values()))
        return KVPart(kind, end - start, arrays)


def _stretches(
    cache: Cache, row: int, computed: int, first: int, end: int
) -> tuple[slice, ...] | None:
    """Where the positions first..end of a row lie in the buffer, in order; None if they do not.

    In temporal order the buffer's `length` columns end with position `computed` - 1.
    """
    ring = isinstance(cache, BatchRotatingKVCache) and cache.rotated
    length = cache.keys.shape[2] if ring else _end(cache)
    ahead = length - computed
    if first + ahead < max(0, _number(cache.left_padding, row)):
        return None
    if not ring:
        return (slice(first + ahead, end + ahead),)
    begin = (first + ahead + _end(cache)) % length
    stop = begin + end - first
    if stop <= length:
        return (slice(begin, stop),)
    return (slice(begin, length), slice(0, stop - length))


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
