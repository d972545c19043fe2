"""The pieces in which KV leaves the engine, rests and comes back.

A block is immutable: 256 consecutive tokens of every layer, or, as a tail, fewer. It consists of
parts, which rest and go separately: not every layer leaves the same behind, and not everything is
worth keeping equally long (ADR-004). Nothing here knows arrays: a tensor is named bytes with a
shape.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from semantic.domain.ids import BlockKey, Namespace, TenantId, TokenId


class PartKind(enum.Enum):
    """Which layers' share of a block a part is."""

    FULL = "full"
    """Keys and values of a whole block in the layers with full attention."""
    TAIL = "tail"
    """The same of a sequence's last tokens, fewer than a block."""
    SLIDING = "sliding"
    """Keys and values of a block's last tokens, as far as layers with a window see them."""
    STATE = "state"
    """What recurrent layers carry on from a block's end."""

    @property
    def begins(self) -> bool:
        """Whether a block exists by this part; the others add to it."""
        return self in (PartKind.FULL, PartKind.TAIL)


class PartId(NamedTuple):
    """A part's name within its namespace."""

    key: BlockKey
    kind: PartKind


class PartOutline(NamedTuple):
    """What has to be known of a part to find it: its header, but for the tokens.

    They are four fifths of a header, and of all blocks known only a few are ever compared.
    """

    key: BlockKey
    kind: PartKind
    parent: BlockKey
    start: int
    length: int
    """Tokens of its block."""
    tenant: TenantId

    @property
    def id(self) -> PartId:
        """The part's name."""
        return PartId(self.key, self.kind)

    def header(self, namespace: Namespace, tokens: tuple[TokenId, ...]) -> "BlockHeader":
        """The whole header."""
        return BlockHeader(
            *(self.key, self.parent, namespace, self.kind, self.start, tokens), tenant=self.tenant
        )


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array as bytes: C-contiguous, little-endian; `dtype` by its safetensors name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a part of a block is, apart from its bytes.

    `start` is the position of the block's first token; `tokens` are those of the block, of which
    a part may hold less. `tenant` may use it; all may, if that is `PUBLIC`.
    """

    key: BlockKey
    parent: BlockKey
    namespace: Namespace
    kind: PartKind
    start: int
    tokens: tuple[TokenId, ...]
    tenant: TenantId

    @property
    def id(self) -> PartId:
        """The part's name."""
        return PartId(self.key, self.kind)

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.tokens)

    @property
    def outline(self) -> PartOutline:
        """The header without the tokens."""
        return PartOutline(
            *(self.key, self.kind, self.parent, self.start, len(self.tokens)), tenant=self.tenant
        )


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part of a block outside the engine."""

    header: BlockHeader
    tensors: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(len(tensor.data) for tensor in self.tensors)


def num_blocks(parts: Iterable[PartId]) -> int:
    """Blocks that exist by these parts."""
    return sum(part.kind.begins for part in parts)
