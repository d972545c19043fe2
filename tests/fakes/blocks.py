"""Small parts of blocks to try stores with."""

import hashlib
import random
from math import prod

from semantic.domain.block import BlockHeader, PartKind, StoredPart, Tensor
from semantic.domain.block_hash import block_key, root_key
from semantic.domain.ids import BlockKey, Namespace, TokenId

NAMESPACE = Namespace(hashlib.sha256(b"a model").hexdigest())
OTHER_NAMESPACE = Namespace(hashlib.sha256(b"another model").hexdigest())

_WINDOW = 5
"""Of the layers whose tokens the sliding parts hold: they see so many, the newest among them."""

_ITEMSIZE = {"BF16": 2, "F16": 2, "F32": 4}


def make_part(
    tokens: tuple[TokenId, ...] = (1, 2, 3),
    *,
    parent: BlockHeader | None = None,
    namespace: Namespace = NAMESPACE,
    kind: PartKind = PartKind.FULL,
    seed: int = 0,
) -> StoredPart:
    """A part of the block of `tokens` after `parent`, whose bytes depend on `seed` and `kind`."""
    before: BlockKey = parent.key if parent else root_key(namespace)
    header = BlockHeader(
        key=block_key(before, tokens),
        parent=before,
        namespace=namespace,
        kind=kind,
        start=parent.end if parent else 0,
        tokens=tokens,
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
