"""What a model's KV cache looks like, and when two caches are interchangeable.

Owns the shape arithmetic and the namespace. Knows no model and no array: an engine describes
itself with these values.
"""

import enum
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, prod
from typing import Final

from semantic.domain.block import PartKind
from semantic.domain.ids import Namespace
from semantic.domain.resume import ResumeRule

BLOCK_SIZE = 256
"""Tokens in a block (ADR-002)."""

LAYOUT_VERSION = 3
"""Raised whenever the meaning of stored KV bytes changes, or of the keys they are stored under."""

ITEMSIZE: Final = {"F32": 4, "F16": 2, "BF16": 2}
"""Bytes an element of KV or state, by its safetensors name."""

GROUP_SIZES: Final = (64, 32)
"""Elements that share a scale and a bias: 64 cost least, 32 fit narrower heads."""

_BITS_A_BYTE = 8
_NUMBERS_A_GROUP = 2
"""A scale and a bias, in the element type of what was quantised."""

_UNSAID_IF_NONE: Final = "quantization"
"""Left out of an identity where there is none: blocks kept before there was any are found still."""


class Granularity(enum.Enum):
    """In what pieces an engine can hand out and take back a sequence's KV."""

    BLOCK = "block"
    """Any range of tokens: attention in every layer, full or within a window."""
    SNAPSHOT = "snapshot"
    """Only together with a state that was taken at its end: some layers are recurrent."""
    NONE = "none"
    """Not at all: such a model is served without memory, never with a wrong one."""


class LayerKind(enum.Enum):
    """How much of the past a layer keeps."""

    FULL = "full"
    SLIDING = "sliding"
    RECURRENT = "recurrent"


@dataclass(frozen=True, slots=True)
class KVQuantization:
    """Elements of `bits` bits, a scale and a bias for every `group_size` of them.

    A group lies within one token's head: tokens can be taken apart and joined, bit for bit.
    """

    bits: int
    group_size: int


@dataclass(frozen=True, slots=True)
class AttentionLayer:
    """Keys (1, num_kv_heads, n, key_dim) and values (1, num_kv_heads, n, value_dim) of n tokens.

    The two widths differ in latent attention (MLA, DeepSeek-V2). A layer with a `window` sees the
    last `window` tokens, the newest among them, and the first `keep` of all.
    """

    num_kv_heads: int
    key_dim: int
    value_dim: int
    dtype: str
    """Element type by its safetensors name: F32, F16 or BF16."""
    window: int | None = None
    keep: int = 0

    @property
    def kind(self) -> LayerKind:
        """Full or sliding."""
        return LayerKind.FULL if self.window is None else LayerKind.SLIDING

    def nbytes(self, num_tokens: int, quantization: KVQuantization | None = None) -> int:
        """Bytes of keys and values of `num_tokens` tokens, as they are or quantised."""
        elements = num_tokens * self.num_kv_heads * (self.key_dim + self.value_dim)
        if quantization is None:
            return elements * ITEMSIZE[self.dtype]
        groups = elements // quantization.group_size
        codes = elements * quantization.bits // _BITS_A_BYTE
        return codes + groups * _NUMBERS_A_GROUP * ITEMSIZE[self.dtype]

    def kept_of(self, num_tokens: int) -> int:
        """Tokens of a block of `num_tokens` that this layer can still see from the block's end."""
        return num_tokens if self.window is None else min(num_tokens, self.window - 1)


@dataclass(frozen=True, slots=True)
class StateArray:
    """One array of a recurrent state, for one sequence."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of it."""
        return prod(self.shape) * ITEMSIZE[self.dtype]


@dataclass(frozen=True, slots=True)
class RecurrentLayer:
    """A state of constant size, which stands for the whole past and cannot be rewound."""

    arrays: tuple[StateArray, ...]

    @property
    def kind(self) -> LayerKind:
        """Recurrent."""
        return LayerKind.RECURRENT

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return sum(array.nbytes for array in self.arrays)


LayerSpec = AttentionLayer | RecurrentLayer

_LAYERS_OF: Final = {
    PartKind.FULL: LayerKind.FULL,
    PartKind.TAIL: LayerKind.FULL,
    PartKind.SLIDING: LayerKind.SLIDING,
    PartKind.STATE: LayerKind.RECURRENT,
}


@dataclass(frozen=True, slots=True)
class ModelCacheSpec:
    """Every layer's cache, in the model's order.

    A layer that keeps several caches stands here as several layers. With `quantization` the keys
    and values of parts are quantised; states and running batches never are.
    """

    layers: tuple[LayerSpec, ...]
    quantization: KVQuantization | None = None

    @property
    def granularity(self) -> Granularity:
        """In what pieces this cache can be kept."""
        recurrent = any(layer.kind is LayerKind.RECURRENT for layer in self.layers)
        return Granularity.SNAPSHOT if recurrent else Granularity.BLOCK

    @property
    def windows(self) -> tuple[int, ...]:
        """The different windows of sliding layers, in tokens, smallest first."""
        found = {layer.window for layer in self.layers if isinstance(layer, AttentionLayer)}
        return tuple(sorted(window for window in found if window is not None))

    @property
    def resume_rule(self) -> ResumeRule:
        """From where such a cache can be continued."""
        return ResumeRule(self.windows, recurrent=self.granularity is Granularity.SNAPSHOT)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of each further token's share of a part, in the full-attention layers."""
        return self.nbytes(PartKind.FULL, 1)

    @property
    def unquantized(self) -> "ModelCacheSpec":
        """The same in the model's own precision: what sequences take while they run."""
        return replace(self, quantization=None)

    @property
    def widths(self) -> tuple[int, ...]:
        """The different widths of keys and values, narrowest first."""
        attention = [layer for layer in self.layers if isinstance(layer, AttentionLayer)]
        dims = [(layer.key_dim, layer.value_dim) for layer in attention]
        return tuple(sorted({dim for pair in dims for dim in pair}))

    @property
    def group_size(self) -> int | None:
        """The groups in which it could be quantised; None if some width has no whole groups."""
        fitting = (size for size in GROUP_SIZES if not any(dim % size for dim in self.widths))
        return next(fitting, None)

    def groups(self, kind: PartKind) -> tuple[tuple[LayerSpec, tuple[int, ...]], ...]:
        """The layers that such a part holds: those of one shape together, with their places."""
        places: dict[LayerSpec, list[int]] = {}
        for place, layer in enumerate(self.layers):
            if layer.kind is _LAYERS_OF[kind]:
                places.setdefault(layer, []).append(place)
        return tuple((layer, tuple(found)) for layer, found in places.items())

    def nbytes(self, kind: PartKind, num_tokens: int = BLOCK_SIZE) -> int:
        """Bytes of one part of a block of `num_tokens`, quantised if that is what is kept."""
        return sum(
            layer.nbytes(layer.kept_of(num_tokens), self.quantization)
            if isinstance(layer, AttentionLayer)
            else layer.nbytes
            for layer in self.layers
            if layer.kind is _LAYERS_OF[kind]
        )


def blocks_behind(window: int, block_size: int = BLOCK_SIZE) -> int:
    """Blocks whose sliding parts a layer with this window needs at a block boundary.

    The newest token sees `window` - 1 before it: 1,024 take 4 blocks of 256.
    """
    return ceil((window - 1) / block_size)


@dataclass(frozen=True, slots=True)
class CacheIdentity:
    """Everything that must be equal for KV to be interchangeable.

    `weights`, `config` and `tokenizer` are digests of content, never names: two fine-tunes of one
    shape must not exchange KV. `config` covers rope and weight quantisation, `spec` the cache's
    classes, shapes, element type and quantisation; `kv_bits` says the latter's bits, None without
    one; `sharding` says which share of a model's layers and heads the KV is.
    """

    weights: str
    config: str
    tokenizer: str
    spec: ModelCacheSpec | None
    engine: str
    backend: str
    kv_bits: int | None = None
    sharding: str = "1 of 1"
    block_size: int = BLOCK_SIZE
    layout_version: int = LAYOUT_VERSION

    @property
    def namespace(self) -> Namespace:
        """SHA-256 over all fields."""
        text = json.dumps(asdict(self, dict_factory=_said), sort_keys=True)
        return Namespace(hashlib.sha256(text.encode()).hexdigest())


def _said(fields: Sequence[tuple[str, object]]) -> dict[str, object]:
    return {name: said for name, said in fields if name != _UNSAID_IF_NONE or said is not None}
