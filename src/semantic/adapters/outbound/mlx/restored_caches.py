"""Caches put together from the parts of blocks, ready to be a batch of one.

What mlx-lm makes of them is, to the last bit and in the same places, what a prefill up to there
leaves behind, so that what follows is computed in the same order. (Decoding turns a window's ring,
which a further chunk puts in order again; only if that chunk is a single token are the same numbers
added up in another order.) Each is handed to its batch without a copy: `merge` of mlx-lm's own
would copy whole buffers twice more, and on a batch of one there is nothing to pad.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import mlx.core as mx
from mlx_lm.models.cache import (
    ArraysCache,
    BatchKVCache,
    BatchRotatingKVCache,
    CacheList,
    KVCache,
    RotatingKVCache,
)

from semantic.adapters.outbound.mlx.batch_caches import Begun, Cache
from semantic.adapters.outbound.mlx.kv_part import KVPart
from semantic.domain.block import PartKind
from semantic.domain.cache_spec import (
    BLOCK_SIZE,
    AttentionLayer,
    LayerSpec,
    ModelCacheSpec,
    RecurrentLayer,
)
from semantic.domain.errors import IncompatibleCacheError


class Piece(NamedTuple):
    """The first `length` tokens of a block, by its parts."""

    full: KVPart
    length: int
    sliding: KVPart | None
    state: KVPart | None


def begun(pieces: Sequence[Piece]) -> Begun:
    """The block within which a sequence that begins with `pieces` goes on."""
    total = sum(piece.length for piece in pieces)
    if not pieces or pieces[-1].length == BLOCK_SIZE:
        return Begun(total, total)
    last = pieces[-1]
    return Begun(total - last.length, total, last.full, last.sliding)


class RestoredKVCache(KVCache):
    """A full-attention layer's first `num_tokens` tokens, with room behind them."""

    def __init__(self, keys: mx.array, values: mx.array, num_tokens: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # mlx-lm is untyped
        self.keys, self.values, self.offset = keys, values, num_tokens

    @classmethod
    def merge(cls, caches: list[KVCache]) -> BatchKVCache:
        """A batch cache over the only cache's own buffer."""
        (cache,) = caches
        batch = BatchKVCache([0])
        offset = mx.array([cache.offset])
        batch.state = (cache.keys, cache.values, offset, mx.array([0]), cache.offset)
        return batch


class RestoredRotatingKVCache(RotatingKVCache):
    """A sliding layer's last tokens before `position`, in temporal order, behind `blank` zeros."""

    def __init__(
        self, keys: mx.array, values: mx.array, position: int, window: int, blank: int
    ) -> None:
        super().__init__(window)  # type: ignore[no-untyped-call] # mlx-lm is untyped
        self.keys, self.values, self.offset = keys, values, position
        self._idx = self.held = keys.shape[2]
        self.blank = blank

    @classmethod
    def merge(cls, caches: list["RestoredRotatingKVCache"]) -> BatchRotatingKVCache:
        """A batch cache over the only cache's own buffer."""
        (cache,) = caches
        batch = BatchRotatingKVCache(cache.max_size, [0])
        batch.state = (
            cache.keys,
            cache.values,
            mx.array([cache.offset]),
            mx.array([cache.blank]),
            cache.max_size,
            cache.offset,
            cache.held,
            False,
        )
        return batch


class RestoredArraysCache(ArraysCache):
    """A recurrent layer's state."""

    def __init__(self, arrays: Sequence[mx.array]) -> None:
        super().__init__(len(arrays))
        for number, array in enumerate(arrays):
            self[number] = array

    @classmethod
    def merge(cls, caches: list[ArraysCache]) -> ArraysCache:
        """A batch cache of the only cache's own arrays."""
        (cache,) = caches
        batch = ArraysCache(len(cache.cache), left_padding=[0])
        batch.cache = cache.cache
        return batch


def restore(fresh: Sequence[Cache], pieces: Sequence[Piece], spec: ModelCacheSpec) -> list[Cache]:
    """Every layer's cache from the leading tokens of blocks, in order.

    `fresh` are the model's empty caches, which say how caches are put into lists.

    Raises:
        IncompatibleCacheError: if the pieces lack what sliding or recurrent layers go on with.
    """
    restored: dict[int, Cache] = {}
    for kind in (PartKind.FULL, PartKind.SLIDING, PartKind.STATE):
        for group, (layer, places) in enumerate(spec.groups(kind)):
            for number, place in enumerate(places):
                restored[place] = _layer(pieces, layer, group, number)
    caches = _nested(fresh, (restored[place] for place in sorted(restored)))
    mx.eval([cache.state for cache in restored.values()])
    return caches


def _nested(like: Sequence[Cache], found: Iterator[Cache]) -> list[Cache]:
    return [_list(cache, found) if isinstance(cache, CacheList) else next(found) for cache in like]


def _list(like: CacheList, found: Iterator[Cache]) -> CacheList:
    return CacheList(*_nested(like.caches, found))  # type: ignore[no-untyped-call] # mlx-lm is untyped


def _layer(pieces: Sequence[Piece], layer: LayerSpec, group: int, number: int) -> Cache:
    if isinstance(layer, RecurrentLayer):
        return _recurrent(pieces, layer, group, number)
    if layer.window is None:
        return _full(pieces, layer, group, number)
    return _sliding(pieces, layer, layer.window, group, number)


def _full(
    pieces: Sequence[Piece], layer: AttentionLayer, group: int, number: int
) -> RestoredKVCache:
    # Room for what comes next, so that the first chunk does not copy the buffer again.
    total = sum(piece.length for piece in pieces)
    capacity = (total // KVCache.step + 2) * KVCache.step

    def joined(name: str, dim: int) -> mx.array:
        columns = [piece.full.rows(name, number, slice(piece.length)) for piece in pieces]
        return mx.concatenate([*columns, _zeros(columns[0], capacity - total, dim)], axis=2)

    keys = joined(f"keys.{group}", layer.key_dim)
    return RestoredKVCache(keys, joined(f"values.{group}", layer.value_dim), total)


def _sliding(
    pieces: Sequence[Piece], layer: AttentionLayer, window: int, group: int, number: int
) -> RestoredRotatingKVCache:
    """What the layer sees from the end of the pieces.

    Behind a whole window mlx-lm keeps one column more, which nothing sees and the next token
    replaces: it is there as zeros, called padding, so that nobody takes it for a position.

        |0|<- window - 1 tokens ->|   position >= window
    """
    position = sum(piece.length for piece in pieces)
    wanted = min(position, window - 1)
    blank = int(position >= window)

    def joined(name: str, dim: int) -> mx.array:
        columns: list[mx.array] = []
        lacking = wanted
        for piece in reversed(pieces):
            if lacking <= 0:
                break
            held = _seen(piece, layer, f"{name}.{group}", number)
            columns.insert(0, held[:, :, max(0, held.shape[2] - lacking) :])
            lacking -= columns[0].shape[2]
        if lacking > 0:
            raise IncompatibleCacheError(f"{lacking} tokens that a window sees are missing")
        if blank:
            columns.insert(0, _zeros(columns[0], blank, dim))
        return mx.concatenate(columns, axis=2)

    keys = joined("keys", layer.key_dim)
    values = joined("values", layer.value_dim)
    return RestoredRotatingKVCache(keys, values, position, window, blank)


def _seen(piece: Piece, layer: AttentionLayer, name: str, number: int) -> mx.array:
    """A piece's tokens that end where it ends."""
    if piece.sliding is None:
        raise IncompatibleCacheError("a block lacks what windows see of it")
    size = piece.sliding.num_tokens
    if piece.length < size and layer.kept_of(size) < size:
        raise IncompatibleCacheError("the beginning of a block is not all within the window")
    return piece.sliding.rows(name, number, slice(piece.length))


def _recurrent(
    pieces: Sequence[Piece], layer: RecurrentLayer, group: int, number: int
) -> RestoredArraysCache:
    last = pieces[-1]
    if last.state is None or last.length != last.state.num_tokens:
        raise IncompatibleCacheError("the state at the end of the blocks is missing")
    names = [f"state.{group}.{array}" for array in range(len(layer.arrays))]
    # Copies: what a batch does to its state must not reach the handle.
    return RestoredArraysCache([mx.contiguous(last.state.arrays[name][number]) for name in names])


def _zeros(like: mx.array, num_tokens: int, dim: int) -> mx.array:
    batch, heads = like.shape[:2]
    return mx.zeros((batch, heads, num_tokens, dim), dtype=like.dtype)
