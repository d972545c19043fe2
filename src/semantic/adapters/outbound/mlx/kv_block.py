"""KV of consecutive tokens as MLX arrays: cutting it out of a batch, and to bytes and back.

Owns the one accessor that knows where a sequence's positions lie inside mlx-lm's batch caches.
Arrays never leave the thread that owns the engine; bytes do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import BatchKVCache, KVCache

from semantic.domain.block import Part
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.domain.errors import IncompatibleCacheError

DTYPES: Final = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"}
"""Element types that KV may have, by their safetensors names."""

_CARRIERS: Final = {"F32": mx.uint32, "F16": mx.uint16, "BF16": mx.uint16}
"""Integers of the same width: numpy has no bfloat16, and bits must not be converted."""


@dataclass(frozen=True, slots=True)
class KVBlock:
    """An immutable handle: keys (L, 1, H, n, key_dim) and values (L, 1, H, n, value_dim)."""

    keys: mx.array
    values: mx.array

    @property
    def num_tokens(self) -> int:
        """Tokens it holds."""
        return int(self.keys.shape[3])

    @property
    def nbytes(self) -> int:
        """Device memory it takes."""
        return int(self.keys.nbytes + self.values.nbytes)


def cut(caches: Sequence[BatchKVCache], row: int, start: int, end: int) -> KVBlock:
    """Copy positions start..end of one row out of every layer's batch cache.

        buffer   |left padding|p0 p1 ...          |room|
                              ^pad + start  ^pad + end

    The copy is evaluated: it depends on nothing that later steps change.
    """
    pad = int(np.array(caches[0].left_padding)[row])
    here = (slice(row, row + 1), slice(None), slice(pad + start, pad + end))
    pairs = [cache.keys_and_values() for cache in caches]  # type: ignore[no-untyped-call]
    keys = mx.stack([keys[here] for keys, _ in pairs])
    values = mx.stack([values[here] for _, values in pairs])
    mx.eval(keys, values)
    return KVBlock(keys, values)


def to_parts(block: KVBlock) -> tuple[Part, ...]:
    """The block's bytes, exactly."""
    return (_part("keys", block.keys), _part("values", block.values))


def from_parts(parts: Sequence[Part], num_tokens: int, spec: ModelCacheSpec) -> KVBlock:
    """The inverse of `to_parts`.

    Raises:
        IncompatibleCacheError: if names, shapes, sizes or element type are not the model's.
    """
    shapes = {
        name: (spec.num_layers, 1, spec.num_kv_heads, num_tokens, dim)
        for name, dim in (("keys", spec.key_dim), ("values", spec.value_dim))
    }
    expected = [
        (name, spec.dtype, shape, math.prod(shape) * spec.itemsize)
        for name, shape in shapes.items()
    ]
    found = sorted((part.name, part.dtype, part.shape, len(part.data)) for part in parts)
    if found != expected:
        raise IncompatibleCacheError(f"the engine expects {expected}, the block holds {found}")
    arrays = {part.name: _array(part) for part in parts}
    mx.eval(list(arrays.values()))
    return KVBlock(arrays["keys"], arrays["values"])


def _part(name: str, array: mx.array) -> Part:
    dtype = DTYPES[array.dtype]
    carrier = mx.contiguous(array).view(_CARRIERS[dtype]).reshape(-1)
    mx.eval(carrier)
    return Part(name, dtype, tuple(array.shape), np.array(carrier, copy=False).tobytes())


def _array(part: Part) -> mx.array:
    carrier = _CARRIERS[part.dtype]
    numbers = np.frombuffer(part.data, np.uint32 if carrier == mx.uint32 else np.uint16)
    dtype = next(dtype for dtype, name in DTYPES.items() if name == part.dtype)
    return mx.array(numbers).view(dtype).reshape(part.shape)


class RestoredKVCache(KVCache):
    """One layer's KV put together from blocks, handed to a batch of one without a copy.

    `KVCache.merge` would copy the whole buffer twice more; on a batch of one there is nothing
    to pad, so the buffer itself can become the batch's.
    """

    def __init__(self, keys: mx.array, values: mx.array, num_tokens: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # mlx-lm is untyped
        self.keys, self.values, self.offset = keys, values, num_tokens

    @classmethod
    def merge(cls, caches: list[KVCache]) -> BatchKVCache:
        """A batch cache over the only cache's own buffer."""
        (cache,) = caches
        batch = BatchKVCache([0])
        batch.state = (
            cache.keys,
            cache.values,
            mx.array([cache.offset]),
            mx.array([0]),
            cache.offset,
        )
        return batch


def restore(pieces: Sequence[tuple[KVBlock, int]]) -> list[RestoredKVCache]:
    """Every layer's cache from the leading tokens of blocks, in order.

    `pieces` are blocks and how many of their tokens count. The buffers get room for what comes
    next, so that the first chunk does not copy them again.
    """
    step = KVCache.step
    total = sum(length for _, length in pieces)
    capacity = (total // step + 2) * step
    first = pieces[0][0]
    caches = []
    for layer in range(first.keys.shape[0]):
        keys = [block.keys[layer, :, :, :length] for block, length in pieces]
        values = [block.values[layer, :, :, :length] for block, length in pieces]
        keys.append(_room(first.keys, capacity - total))
        values.append(_room(first.values, capacity - total))
        caches.append(
            RestoredKVCache(mx.concatenate(keys, axis=2), mx.concatenate(values, axis=2), total)
        )
    mx.eval([cache.state for cache in caches])
    return caches


def _room(like: mx.array, num_tokens: int) -> mx.array:
    _, batch, heads, _, dim = like.shape
    return mx.zeros((batch, heads, num_tokens, dim), dtype=like.dtype)
