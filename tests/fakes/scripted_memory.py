"""What the scripted executor knows of a sequence, kept as a model's layers keep it.

A key is a token's id, a value a checksum of all that the layers see there, and a state one of all
that ever was: what is wrong in one layer makes all that follows wrong, in every layer.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from semantic.domain.block import PartKind, Tensor
from semantic.domain.cache_spec import (
    ITEMSIZE,
    AttentionLayer,
    LayerSpec,
    ModelCacheSpec,
    RecurrentLayer,
    StateArray,
)
from semantic.domain.errors import IncompatibleCacheError
from semantic.domain.ids import TokenId
from semantic.ports.model_executor import AttachedBlock, PartHandle

ITEM = 4
"""Bytes of a key, and of a value."""

FULL_LAYER = AttentionLayer(num_kv_heads=1, key_dim=1, value_dim=1, dtype="F32")
RECURRENT_LAYER = RecurrentLayer((StateArray((1, 6), "F32"), StateArray((2,), "F32")))


def sliding_layer(window: int) -> AttentionLayer:
    """A layer that sees `window` tokens, the newest among them."""
    return AttentionLayer(num_kv_heads=1, key_dim=1, value_dim=1, dtype="F32", window=window)


def spec_of(*layers: LayerSpec) -> ModelCacheSpec:
    """A spec of the layers above."""
    return ModelCacheSpec(layers)


@dataclass(frozen=True, slots=True)
class ScriptedPart:
    """A handle: for each layer that has a share in it its arrays, in the spec's order."""

    kind: PartKind
    num_tokens: int
    layers: tuple[tuple[bytes, ...], ...]

    @property
    def nbytes(self) -> int:
        return sum(len(array) for arrays in self.layers for array in arrays)


class _Attention:
    """A layer's keys and values; with a window the last ones, as mlx-lm's rotating cache."""

    def __init__(self, window: int | None) -> None:
        self._window = window
        self._seen = hashlib.sha256()
        self.keys, self.values = bytearray(), bytearray()
        self.first = 0

    @property
    def end(self) -> int:
        return self.first + len(self.keys) // ITEM

    def make_room(self) -> None:
        """Before more tokens come, what none of them sees is let go of."""
        if self._window is not None:
            surplus = max(0, len(self.keys) // ITEM - (self._window - 1))
            del self.keys[: surplus * ITEM], self.values[: surplus * ITEM]
            self.first += surplus

    def seen(self) -> bytes:
        """What the next token sees."""
        if self._window is None:
            return self._seen.digest()
        start = max(0, len(self.keys) - (self._window - 1) * ITEM)
        return bytes(self.keys[start:] + self.values[start:])

    def append(self, key: bytes, value: bytes) -> None:
        self.keys += key
        self.values += value
        for start in range(0, len(key), ITEM):
            self._seen.update(key[start : start + ITEM] + value[start : start + ITEM])

    def cut(self, start: int, end: int) -> tuple[bytes, bytes] | None:
        if start < self.first:
            return None
        where = slice((start - self.first) * ITEM, (end - self.first) * ITEM)
        return bytes(self.keys[where]), bytes(self.values[where])


class _Recurrent:
    """A layer's state."""

    def __init__(self) -> None:
        self.state = bytes(8 * ITEM)

    def seen(self) -> bytes:
        return self.state

    def arrays(self) -> tuple[bytes, bytes]:
        return self.state[: 6 * ITEM], self.state[6 * ITEM :]


class Memory:
    """All layers' caches of one sequence. Takes specs of `spec_of`'s layers."""

    def __init__(self, spec: ModelCacheSpec) -> None:
        self.spec = spec
        self.num_tokens = 0
        self._layers = [
            _Attention(layer.window) if isinstance(layer, AttentionLayer) else _Recurrent()
            for layer in spec.layers
        ]

    @classmethod
    def computed(cls, spec: ModelCacheSpec, tokens: Sequence[TokenId]) -> "Memory":
        """That of `tokens`, computed at once."""
        memory = cls(spec)
        memory.advance(tokens)
        return memory

    @classmethod
    def restored(cls, spec: ModelCacheSpec, blocks: Sequence[AttachedBlock]) -> "Memory":
        """That which the blocks hold.

        Raises:
            IncompatibleCacheError: if a layer lacks what the next token sees.
        """
        memory = cls(spec)
        memory.num_tokens = sum(block.length for block in blocks)
        for block in blocks:
            _check(spec, block)
        for place, layer in enumerate(spec.layers):
            cache = memory._layers[place]
            if isinstance(cache, _Recurrent):
                cache.state = _state(spec, place, blocks, cache.state)
            elif isinstance(layer, AttentionLayer) and layer.window is None:
                for block in blocks:
                    keys, values = _share(spec, place, block.full)
                    cache.append(keys[: block.length * ITEM], values[: block.length * ITEM])
            elif isinstance(layer, AttentionLayer):
                _fill_window(cache, spec, place, blocks)
        return memory

    def advance(self, tokens: Sequence[TokenId]) -> None:
        """Compute a chunk of tokens."""
        caches = self._layers
        for cache in caches:
            if isinstance(cache, _Attention):
                cache.make_room()
        for token in tokens:
            key = struct.pack("<I", token)
            hidden = hashlib.sha256(key + b"".join(cache.seen() for cache in caches)).digest()
            for place, cache in enumerate(caches):
                if isinstance(cache, _Attention):
                    start = place % 8 * ITEM
                    cache.append(key, hidden[start : start + ITEM])
                else:
                    cache.state = hidden
        self.num_tokens += len(tokens)

    def seen(self) -> tuple[bytes, ...]:
        """All that the next token depends on."""
        return tuple(cache.seen() for cache in self._layers)

    def seal(self, start: int, end: int, kind: PartKind) -> ScriptedPart | None:
        """A part of the block start..end; None if a layer does not hold it any more."""
        if kind is PartKind.STATE and end != self.num_tokens:
            return None
        shares = [
            cache.arrays()
            if isinstance(cache, _Recurrent)
            else cache.cut(end - _kept(self.spec.layers[place], end - start), end)
            for place, cache in ((place, self._layers[place]) for place in _places(self.spec, kind))
        ]
        layers = tuple(share for share in shares if share is not None)
        return ScriptedPart(kind, end - start, layers) if len(layers) == len(shares) else None


def to_tensors(spec: ModelCacheSpec, part: ScriptedPart) -> tuple[Tensor, ...]:
    """A part's bytes, the layers of one shape together."""
    places = _places(spec, part.kind)
    tensors = []
    for name, dtype, shape, of, number in _described(spec, part.kind, part.num_tokens):
        data = b"".join(part.layers[places.index(place)][number] for place in of)
        tensors.append(Tensor(name, dtype, shape, data))
    return tuple(tensors)


def from_tensors(
    spec: ModelCacheSpec, kind: PartKind, tensors: Sequence[Tensor], num_tokens: int
) -> ScriptedPart:
    """The inverse; raises IncompatibleCacheError if the tensors are not the model's."""
    expected = list(_described(spec, kind, num_tokens))
    found = sorted((one.name, one.dtype, one.shape, len(one.data)) for one in tensors)
    if found != sorted(
        (name, dtype, shape, prod(shape) * ITEMSIZE[dtype]) for name, dtype, shape, _, _ in expected
    ):
        raise IncompatibleCacheError(f"not {num_tokens} tokens of this model: {found}")
    data = {tensor.name: tensor.data for tensor in tensors}
    shares: dict[int, tuple[bytes, ...]] = {}
    for name, _, _, places, _ in expected:
        size = len(data[name]) // len(places)
        for number, place in enumerate(places):
            piece = data[name][number * size : (number + 1) * size]
            shares[place] = (*shares.get(place, ()), piece)
    return ScriptedPart(kind, num_tokens, tuple(shares[place] for place in sorted(shares)))


def own(handle: PartHandle | None) -> ScriptedPart:
    """The handle, if it is one of ours."""
    if not isinstance(handle, ScriptedPart):
        raise IncompatibleCacheError(f"not a part of this engine: {type(handle).__name__}")
    return handle


def _described(
    spec: ModelCacheSpec, kind: PartKind, num_tokens: int
) -> Iterator[tuple[str, str, tuple[int, ...], tuple[int, ...], int]]:
    """Name, type, shape, places of the layers and number in their shares, for every tensor."""
    for group, (layer, places) in enumerate(spec.groups(kind)):
        if isinstance(layer, AttentionLayer):
            shape = (len(places), 1, 1, layer.kept_of(num_tokens), 1)
            yield f"keys.{group}", layer.dtype, shape, places, 0
            yield f"values.{group}", layer.dtype, shape, places, 1
        else:
            for number, array in enumerate(layer.arrays):
                name = f"state.{group}.{number}"
                yield name, array.dtype, (len(places), *array.shape), places, number


def _places(spec: ModelCacheSpec, kind: PartKind) -> list[int]:
    return sorted(place for _, places in spec.groups(kind) for place in places)


def _kept(layer: LayerSpec, num_tokens: int) -> int:
    return layer.kept_of(num_tokens) if isinstance(layer, AttentionLayer) else 0


def _share(spec: ModelCacheSpec, place: int, handle: PartHandle | None) -> tuple[bytes, ...]:
    """A layer's arrays in a part."""
    part = own(handle)
    return part.layers[_places(spec, part.kind).index(place)]


def _check(spec: ModelCacheSpec, block: AttachedBlock) -> None:
    """The parts are what they are given for, of one block, and long enough."""
    full = own(block.full)
    if not full.kind.begins or not 0 < block.length <= full.num_tokens:
        raise IncompatibleCacheError("a block is asked for more tokens than it holds")
    for handle, kind in ((block.sliding, PartKind.SLIDING), (block.state, PartKind.STATE)):
        if handle is None:
            continue
        part = own(handle)
        if (part.kind, part.num_tokens) != (kind, full.num_tokens) or not _places(spec, kind):
            raise IncompatibleCacheError(f"not this block's part: {part.kind}, {part.num_tokens}")


def _state(
    spec: ModelCacheSpec, place: int, blocks: Sequence[AttachedBlock], empty: bytes
) -> bytes:
    if not blocks:
        return empty
    last = blocks[-1]
    if last.state is None or last.length != last.full.num_tokens:
        raise IncompatibleCacheError("there is no state of where the blocks end")
    return b"".join(_share(spec, place, last.state))


def _fill_window(
    cache: _Attention, spec: ModelCacheSpec, place: int, blocks: Sequence[AttachedBlock]
) -> None:
    """Put in exactly what the layer sees from the blocks' end."""
    layer = spec.layers[place]
    position = sum(block.length for block in blocks)
    window = (layer.window if isinstance(layer, AttentionLayer) else None) or 0
    cache.first = max(0, position - (window - 1))
    start = 0
    for block in blocks:
        end, first = start + block.length, max(start, cache.first)
        if first < end:
            held_to = start + block.full.num_tokens
            held_from = held_to - _kept(layer, block.full.num_tokens)
            if block.sliding is None or first < held_from:
                raise IncompatibleCacheError(f"positions {first}..{end} of a window are missing")
            where = slice((first - held_from) * ITEM, (end - held_from) * ITEM)
            keys, values = _share(spec, place, block.sliding)
            cache.append(keys[where], values[where])
        start = end
