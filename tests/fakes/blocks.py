"""Small blocks to try stores with."""

import hashlib
import random

from semantic.domain.block import BlockHeader, BlockKind, Part, StoredBlock
from semantic.domain.block_hash import block_key, root_key
from semantic.domain.ids import BlockKey, Namespace, TokenId

NAMESPACE = Namespace(hashlib.sha256(b"a model").hexdigest())
OTHER_NAMESPACE = Namespace(hashlib.sha256(b"another model").hexdigest())


def make_block(
    tokens: tuple[TokenId, ...] = (1, 2, 3),
    *,
    parent: BlockHeader | None = None,
    namespace: Namespace = NAMESPACE,
    kind: BlockKind = BlockKind.FULL,
    seed: int = 0,
) -> StoredBlock:
    """A block of `tokens` after `parent`, whose bytes depend on `seed`."""
    before: BlockKey = parent.key if parent else root_key(namespace)
    header = BlockHeader(
        key=block_key(before, tokens),
        parent=before,
        namespace=namespace,
        kind=kind,
        start=parent.end if parent else 0,
        tokens=tokens,
    )
    numbers = random.Random(seed)  # noqa: S311 - reproducible bytes, no secrets
    shape = (2, 1, 1, len(tokens), 8)
    size = 2 * len(tokens) * 8 * 2
    return StoredBlock(
        header=header,
        parts=(
            Part("values", "BF16", shape, numbers.randbytes(size)),
            Part("keys", "F16", shape, numbers.randbytes(size)),
        ),
    )
