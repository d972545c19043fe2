"""Small parts of blocks to try stores with."""

import hashlib
import os
import random
from math import prod
from pathlib import Path

from semantic.domain.block import BlockHeader, PartId, PartKind, StoredPart, Tensor
from semantic.domain.block_hash import block_key, root_key, tenant_keys
from semantic.domain.ids import DEFAULT_TENANT, PUBLIC, BlockKey, Namespace, TenantId, TokenId
from semantic.domain.store_secret import StoreSecret

NAMESPACE = Namespace(hashlib.sha256(b"a model").hexdigest())
SECRET = StoreSecret(hashlib.sha256(b"a store").digest())
MINE = tenant_keys(DEFAULT_TENANT, SECRET)
OTHER_NAMESPACE = Namespace(hashlib.sha256(b"another model").hexdigest())

_WINDOW = 5
"""Of the layers whose tokens the sliding parts hold: they see so many, the newest among them."""

_ITEMSIZE = {"BF16": 2, "F16": 2, "F32": 4}


def plant_secret(root: Path, secret: StoreSecret = SECRET) -> None:
    """Have the store that will be opened in `root` use this secret."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(root / "secret.key", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(secret.value)


def folder_of(namespace: Namespace) -> str:
    """How a store with `SECRET` calls the folder of a namespace's blocks."""
    return SECRET.folder_name(namespace)[:12]


def path_in(root: Path, namespace: Namespace, part: PartId) -> Path:
    """Where a store with `SECRET` keeps a part."""
    folder = root / "blk" / folder_of(namespace) / part.key[:2]
    return folder / f"{part.key}.{part.kind.value}.st"


def key_after(
    parent: BlockHeader | None,
    tokens: tuple[TokenId, ...],
    tenant: TenantId = DEFAULT_TENANT,
    namespace: Namespace = NAMESPACE,
) -> BlockKey:
    """The key of a tenant's block that follows another."""
    keys = tenant_keys(tenant, SECRET)
    if parent is None:
        return block_key(root_key(namespace, SECRET), tokens, keys.salt)
    return block_key(parent.key, tokens, keys.salt if parent.tenant == PUBLIC else b"")


def make_part(
    tokens: tuple[TokenId, ...] = (1, 2, 3),
    *,
    parent: BlockHeader | None = None,
    namespace: Namespace = NAMESPACE,
    kind: PartKind = PartKind.FULL,
    seed: int = 0,
    tenant: TenantId = DEFAULT_TENANT,
) -> StoredPart:
    """A part of the block of `tokens` after `parent`, whose bytes depend on `seed` and `kind`."""
    header = BlockHeader(
        key=key_after(parent, tokens, tenant, namespace),
        parent=parent.key if parent else root_key(namespace, SECRET),
        namespace=namespace,
        kind=kind,
        start=parent.end if parent else 0,
        tokens=tokens,
        tenant=tenant,
    )
    numbers = random.Random(f"{kind.value} {seed}")  # noqa: S311 - reproducible, no secrets
    return StoredPart(
        header,
        tuple(
            Tensor(name, dtype, shape, numbers.randbytes(prod(shape) * _ITEMSIZE[dtype]))
            for name, dtype, shape in _arrays(kind, len(tokens))
        ),
    )


def without_tensors(part: StoredPart) -> StoredPart:
    """The part, of a model none of whose layers have a share in it."""
    return StoredPart(part.header, ())


def _arrays(kind: PartKind, num_tokens: int) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Name, type and shape of each tensor, named as an engine names them."""
    match kind:
        case PartKind.STATE:
            return ("state.0.0", "F32", (2, 1, 4, 4)), ("state.0.1", "BF16", (2, 1, 3, 8))
        case PartKind.SLIDING:
            shape = (2, 1, 1, min(num_tokens, _WINDOW - 1), 8)
        case PartKind.FULL | PartKind.TAIL:
            shape = (2, 1, 1, num_tokens, 8)
    return ("values.0", "BF16", shape), ("keys.0", "F16", shape)
