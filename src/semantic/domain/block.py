"""The pieces in which KV leaves the engine, rests and comes back.

A block is immutable: 256 consecutive tokens of every layer, or, as a tail, fewer. Nothing here
knows arrays: a part is named bytes with a shape.
"""

import enum
from dataclasses import dataclass

from semantic.domain.ids import BlockKey, Namespace, TokenId


class BlockKind(enum.Enum):
    """`FULL` blocks hold a whole block's tokens, a `TAIL` the last few of a sequence."""

    FULL = "full"
    TAIL = "tail"


@dataclass(frozen=True, slots=True)
class Part:
    """A named array as bytes: C-contiguous, little-endian; `dtype` by its safetensors name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a block is, apart from its bytes. `start` is the position of its first token."""

    key: BlockKey
    parent: BlockKey
    namespace: Namespace
    kind: BlockKind
    start: int
    tokens: tuple[TokenId, ...]

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block outside the engine."""

    header: BlockHeader
    parts: tuple[Part, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(len(part.data) for part in self.parts)
