"""A part of a block as MLX arrays, and to bytes and back.

The layers of one shape lie in one array, in the model's order: of the group g in the spec

    keys.g     (layers, 1, num_kv_heads, n, key_dim)      n as `AttentionLayer.kept_of` says
    values.g   (layers, 1, num_kv_heads, n, value_dim)
    state.g.i  (layers, *shape of the i-th array)

Where the spec quantises, keys and values are codes, packed into 32 bits each, and have beside them

    keys.g.scales, keys.g.biases    (layers, 1, num_kv_heads, n, key_dim / group_size)

Arrays never leave the thread that owns the engine; bytes do.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import mlx.core as mx
import numpy as np

from semantic.domain.block import PartKind, Tensor
from semantic.domain.cache_spec import ITEMSIZE, AttentionLayer, KVQuantization, ModelCacheSpec
from semantic.domain.errors import IncompatibleCacheError

DTYPES: Final = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"}
"""Element types that a cache may have, by their safetensors names."""

_CODES: Final = "U32"
_CODE_BITS: Final = 32

_NAMES: Final = {**DTYPES, mx.uint32: _CODES}
_ITEMSIZE: Final = {**ITEMSIZE, _CODES: 4}
_CARRIERS: Final = {"F32": mx.uint32, "F16": mx.uint16, "BF16": mx.uint16, _CODES: mx.uint32}
"""Integers of the same width: numpy has no bfloat16, and bits must not be converted."""


@dataclass(frozen=True, slots=True)
class KVPart:
    """An immutable handle. `num_tokens` are those of the block; `arrays` are by name."""

    kind: PartKind
    num_tokens: int
    arrays: dict[str, mx.array]
    quantization: KVQuantization | None = None

    @property
    def nbytes(self) -> int:
        """Device memory it takes."""
        return sum(int(array.nbytes) for array in self.arrays.values())

    def rows(self, name: str, layer: int, tokens: slice) -> mx.array:
        """Keys or values (1, num_kv_heads, n, dim) of one layer, in the model's precision."""
        if self.quantization is None:
            return self.arrays[name][layer, :, :, tokens]
        codes, scales, biases = (self.arrays[one][layer, :, :, tokens] for one in quantized(name))
        return mx.dequantize(
            codes,
            scales,
            biases,
            group_size=self.quantization.group_size,
            bits=self.quantization.bits,
        )


def quantized(name: str) -> tuple[str, str, str]:
    """The arrays that quantised keys or values of that name consist of."""
    return name, f"{name}.scales", f"{name}.biases"


def quantize(name: str, rows: mx.array, quantization: KVQuantization) -> dict[str, mx.array]:
    """Those arrays, made of keys or values (layers, 1, num_kv_heads, n, dim)."""
    arrays = mx.quantize(rows, group_size=quantization.group_size, bits=quantization.bits)
    return dict(zip(quantized(name), arrays, strict=True))


def to_tensors(part: KVPart) -> tuple[Tensor, ...]:
    """The part's bytes, exactly."""
    return tuple(_tensor(name, array) for name, array in part.arrays.items())


def from_tensors(
    kind: PartKind, tensors: Sequence[Tensor], num_tokens: int, spec: ModelCacheSpec
) -> KVPart:
    """The inverse of `to_tensors`.

    Raises:
        IncompatibleCacheError: if names, shapes, sizes or element types are not the model's.
    """
    expected = [
        (name, dtype, shape, math.prod(shape) * _ITEMSIZE[dtype])
        for name, dtype, shape in _described(kind, num_tokens, spec)
    ]
    found = [(part.name, part.dtype, part.shape, len(part.data)) for part in tensors]
    if sorted(found) != sorted(expected):
        raise IncompatibleCacheError(f"the engine expects {expected}, the block holds {found}")
    arrays = {tensor.name: _array(tensor) for tensor in tensors}
    mx.eval(list(arrays.values()))
    return KVPart(kind, num_tokens, arrays, spec.quantization)


def _described(
    kind: PartKind, num_tokens: int, spec: ModelCacheSpec
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, element type and shape of each array of such a part."""
    for group, (layer, places) in enumerate(spec.groups(kind)):
        if isinstance(layer, AttentionLayer):
            rows = (len(places), 1, layer.num_kv_heads, layer.kept_of(num_tokens))
            for name, dim in (("keys", layer.key_dim), ("values", layer.value_dim)):
                yield from _rows(f"{name}.{group}", layer.dtype, (*rows, dim), spec.quantization)
        else:
            for number, array in enumerate(layer.arrays):
                yield f"state.{group}.{number}", array.dtype, (len(places), *array.shape)


def _rows(
    name: str, dtype: str, shape: tuple[int, ...], quantization: KVQuantization | None
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    if quantization is None:
        yield name, dtype, shape
        return
    *rows, dim = shape
    codes, *numbers = quantized(name)
    yield codes, _CODES, (*rows, dim * quantization.bits // _CODE_BITS)
    for number in numbers:
        yield number, dtype, (*rows, dim // quantization.group_size)


def _tensor(name: str, array: mx.array) -> Tensor:
    dtype = _NAMES[array.dtype]
    carrier = mx.contiguous(array).view(_CARRIERS[dtype]).reshape(-1)
    mx.eval(carrier)
    return Tensor(name, dtype, tuple(array.shape), np.array(carrier, copy=False).tobytes())


def _array(tensor: Tensor) -> mx.array:
    carrier = _CARRIERS[tensor.dtype]
    numbers = np.frombuffer(tensor.data, np.uint32 if carrier == mx.uint32 else np.uint16)
    dtype = next(dtype for dtype, name in _NAMES.items() if name == tensor.dtype)
    return mx.array(numbers).view(dtype).reshape(tensor.shape)
