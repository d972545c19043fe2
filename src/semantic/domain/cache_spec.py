"""What a model's KV cache looks like, and when two caches are interchangeable.

Owns the shape arithmetic and the namespace. Knows no model and no array: an engine describes
itself with these values.
"""

import enum
import hashlib
import json
from dataclasses import asdict, dataclass

from semantic.domain.ids import Namespace

BLOCK_SIZE = 256
"""Tokens in a block (ADR-002)."""

LAYOUT_VERSION = 1
"""Raised whenever the meaning of stored KV bytes changes."""


class Granularity(enum.Enum):
    """In what pieces an engine can hand out and take back a sequence's KV."""

    BLOCK = "block"
    """Any range of tokens: full attention in every layer."""
    NONE = "none"
    """Not at all: such a model is served without memory, never with a wrong one."""


@dataclass(frozen=True, slots=True)
class ModelCacheSpec:
    """Shape of the KV that one token leaves behind, the same in every layer.

    Keys of a block of n tokens have the shape (num_layers, 1, num_kv_heads, n, key_dim), values
    the same with value_dim.
    """

    num_layers: int
    num_kv_heads: int
    key_dim: int
    value_dim: int
    dtype: str
    """Element type by its safetensors name: F32, F16 or BF16."""
    itemsize: int
    """Bytes an element."""

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of all layers that one token takes."""
        dims = self.key_dim + self.value_dim
        return self.num_layers * self.num_kv_heads * dims * self.itemsize

    def bytes_for(self, num_tokens: int) -> int:
        """Bytes of `num_tokens` tokens."""
        return num_tokens * self.bytes_per_token


@dataclass(frozen=True, slots=True)
class CacheIdentity:
    """Everything that must be equal for KV to be interchangeable.

    `weights` and `tokenizer` are digests of content, never names: two fine-tunes of one shape
    must not exchange KV.
    """

    weights: str
    config: str
    tokenizer: str
    spec: ModelCacheSpec
    engine: str
    backend: str
    block_size: int = BLOCK_SIZE
    layout_version: int = LAYOUT_VERSION

    @property
    def namespace(self) -> Namespace:
        """SHA-256 over all fields."""
        text = json.dumps(asdict(self), sort_keys=True)
        return Namespace(hashlib.sha256(text.encode()).hexdigest())
