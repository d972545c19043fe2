"""Content addresses of blocks.

A block's key covers its whole past: SHA-256 over (parent key, token ids), where the first
parent is derived from the namespace. Equal keys therefore mean equal tokens from position 0 in
an equal namespace, and KV of another model can never be found by accident. SHA-256, because a
collision would be another conversation's memory (compare GHSA-rm76-4mrf-v9r8).
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence

from semantic.domain.ids import BlockKey, Namespace, TokenId

_ROOT = b"semantic/block-chain/1\0"


def root_key(namespace: Namespace) -> BlockKey:
    """The parent of every first block of a namespace."""
    return BlockKey(hashlib.sha256(_ROOT + namespace.encode()).hexdigest())


def block_key(parent: BlockKey, tokens: Sequence[TokenId]) -> BlockKey:
    """Key of the block that holds `tokens` after `parent`.

    Token ids enter as unsigned 32-bit little-endian numbers, so that no two lists of ids have
    the same bytes.
    """
    return BlockKey(hashlib.sha256(bytes.fromhex(parent) + token_bytes(tokens)).hexdigest())


def token_bytes(tokens: Sequence[TokenId]) -> bytes:
    """Token ids as unsigned 32-bit little-endian numbers.

    Raises:
        ValueError: if one of them is not such a number.
    """
    try:
        return struct.pack(f"<{len(tokens)}I", *tokens)
    except struct.error as error:
        raise ValueError(f"token ids are unsigned 32-bit numbers: {error}") from error


def tokens_from_bytes(data: bytes) -> tuple[TokenId, ...]:
    """The inverse of `token_bytes`.

    Raises:
        ValueError: if the length is not a multiple of four.
    """
    if len(data) % 4:
        raise ValueError(f"{len(data)} bytes are not a list of 32-bit token ids")
    return struct.unpack(f"<{len(data) // 4}I", data)


def full_blocks(
    root: BlockKey, tokens: Sequence[TokenId], block_size: int
) -> Iterator[tuple[BlockKey, BlockKey]]:
    """Yield (parent, key) of every full block of `tokens`, from the first on."""
    parent = root
    for start in range(0, len(tokens) - block_size + 1, block_size):
        key = block_key(parent, tokens[start : start + block_size])
        yield parent, key
        parent = key
