"""Content addresses of blocks.

A block's key covers its whole past: SHA-256 over (parent key, token ids), where the first parent
is derived from the namespace and the store's secret. Equal keys therefore mean equal tokens from
position 0 in an equal namespace, KV of another model can never be found by accident, and no key
can be computed from outside. SHA-256, because a collision would be another conversation's memory
(compare GHSA-rm76-4mrf-v9r8).

A chain has a public beginning, mostly an empty one, and then is one tenant's: the tenant's salt
enters at the first block that is its own, and by that into the keys of all that follow.

    root ── public ── public ── own, salted ── own ── own
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from semantic.domain.ids import PUBLIC, BlockKey, Namespace, TenantId, TokenId
from semantic.domain.store_secret import StoreSecret


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """How one tenant's blocks are named. What is public has no `salt`."""

    tenant: TenantId
    salt: bytes = field(repr=False)

    @property
    def public(self) -> bool:
        """Whether they are for all."""
        return self.tenant == PUBLIC


PUBLIC_KEYS = TenantKeys(PUBLIC, b"")


@lru_cache(maxsize=256)
def tenant_keys(tenant: TenantId, secret: StoreSecret) -> TenantKeys:
    """How a tenant's blocks are named in the store that has this secret."""
    return PUBLIC_KEYS if tenant == PUBLIC else TenantKeys(tenant, secret.salt(tenant))


def root_key(namespace: Namespace, secret: StoreSecret) -> BlockKey:
    """The parent of every first block of a namespace."""
    return BlockKey(secret.chain_root(namespace))


def block_key(parent: BlockKey, tokens: Sequence[TokenId], salt: bytes = b"") -> BlockKey:
    """Key of the block that holds `tokens` after `parent`.

    `salt` is its tenant's where it is the first that is not public, and nothing elsewhere. Token
    ids enter as unsigned 32-bit little-endian numbers, so that no two lists have the same bytes.
    """
    content = bytes.fromhex(parent) + token_bytes(tokens) + salt
    return BlockKey(hashlib.sha256(content).hexdigest())


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
