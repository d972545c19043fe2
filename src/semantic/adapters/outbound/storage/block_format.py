"""How a block is written down: one safetensors file, its header signed for its payload.

    8 bytes   length of the header, little-endian
    header    JSON: what the block is, in `__metadata__`, and what its parts are, in their order
    payload   the parts' bytes, without gaps, to the end of the file

`payload_xxh3` in the header is the digest of the payload, `header_xxh3` that of everything
before the payload, itself read as zeros. Together they cover every bit of the file, and a
header can be trusted without reading its payload. They find damage, not forgery.

The file is put together here and not by the safetensors library, whose writer copies a block
twice while it holds the interpreter's lock: 20 ms of 12 MB in which no token is decoded. The
library is the judge in the tests. Decides about bytes; does no I/O.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeGuard

import xxhash

from semantic.domain.block import BlockHeader, BlockKind, StoredBlock
from semantic.domain.block_hash import token_bytes, tokens_from_bytes
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.ids import BlockKey, Namespace

FORMAT = "semantic-block/1"

PREFIX_BYTES = 8
"""Bytes in which a safetensors file says how long its header is."""

MAX_HEADER_BYTES = 1 << 20
"""A block's header takes some 3 KB; a damaged length must not make us read gigabytes."""

_ALIGNMENT = 8
"""The payload begins at a multiple of it, so that any element type is aligned when mapped."""

_UNSIGNED = "0" * 32

_ITEMSIZE = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
"""Bytes an element, by its safetensors name."""


@dataclass(frozen=True, slots=True)
class PartLayout:
    """A part without its bytes, of which there are `nbytes`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """What a file's header says. The parts' bytes follow one another from `payload` on."""

    header: BlockHeader
    parts: tuple[PartLayout, ...]
    payload_digest: str
    payload: int
    """Where the payload begins."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.payload + sum(part.nbytes for part in self.parts)


def encode(block: StoredBlock) -> tuple[bytes, ...]:
    """The bytes of a block's file, in pieces: the parts' own bytes are not copied.

    Raises:
        CachePersistenceError: if the block is not one that could be read back as it is.
    """
    digest = xxhash.xxh3_128()
    for part in block.parts:
        digest.update(part.data)
    parts = [PartLayout(p.name, p.dtype, p.shape, len(p.data)) for p in block.parts]
    try:
        head = _head(block.header, parts, digest.hexdigest())
        layout = decode_head(head)
    except (CacheCorruptionError, ValueError, OverflowError) as error:
        raise CachePersistenceError(f"this block cannot be written down: {error}") from error
    if layout.header != block.header or list(layout.parts) != parts:
        raise CachePersistenceError("this block would not be read back as it is")
    return (head, *(part.data for part in block.parts))


def header_length(prefix: bytes) -> int:
    """Length of the header behind a file's first `PREFIX_BYTES` bytes.

    Raises:
        CacheCorruptionError: if no block's header is that long.
    """
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise CacheCorruptionError(f"a header of {length} bytes; {MAX_HEADER_BYTES} are allowed")
    return length


def decode_head(head: bytes) -> BlockLayout:
    """Understand and verify everything before the payload, the length included.

    Raises:
        CacheCorruptionError: if it is not, byte for byte, what `encode` writes.
        IncompatibleCacheError: if it is a safetensors header of another format.
    """
    header_length(head[:PREFIX_BYTES])
    try:
        described, metadata = _parse(head)
        if metadata.get("format") != FORMAT:
            raise IncompatibleCacheError(f"format {metadata.get('format')!r}, not {FORMAT}")
        header = _understand(metadata)
        parts = tuple(_part_layout(name, part) for name, part in described.items())
        payload_digest = metadata["payload_xxh3"]
        # Writing it again is the strictest reading: the digests, the offsets, each comma.
        written = _head(header, parts, payload_digest)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CacheCorruptionError(f"the header cannot be understood: {error}") from error
    if written != head:
        raise CacheCorruptionError("the header differs from what was written")
    return BlockLayout(header, parts, payload_digest, payload=len(head))


def _head(header: BlockHeader, parts: Sequence[PartLayout], payload_digest: str) -> bytes:
    """Everything before the payload. ValueError or OverflowError if it cannot be written.

    Of two parts of one name only the last stands in it: `encode` sees that when it reads again.
    """
    metadata = {
        "header_xxh3": _UNSIGNED,
        "payload_xxh3": payload_digest,
        "format": FORMAT,
        "key": header.key,
        "parent": header.parent,
        "namespace": header.namespace,
        "kind": header.kind.value,
        "start": str(header.start),
        "tokens": token_bytes(header.tokens).hex(),
    }
    document: dict[str, object] = {"__metadata__": metadata}
    position = 0
    for part in parts:
        document[part.name] = {
            "dtype": part.dtype,
            "shape": part.shape,
            "data_offsets": [position, position + part.nbytes],
        }
        position += part.nbytes
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-(PREFIX_BYTES + len(text)) % _ALIGNMENT)
    unsigned = len(text).to_bytes(PREFIX_BYTES, "little") + text
    # Nothing that could look like the unsigned digest stands before it.
    digest = xxhash.xxh3_128_hexdigest(unsigned)
    return unsigned.replace(_UNSIGNED.encode(), digest.encode(), 1)


def _parse(head: bytes) -> tuple[dict[str, object], dict[str, str]]:
    """Parts and metadata of a safetensors header, as they stand there."""
    document = json.loads(head[PREFIX_BYTES:].decode())
    if not isinstance(document, dict):
        raise TypeError("not a safetensors header")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(type(v) is not str for v in metadata.values()):
        raise TypeError("metadata is text")
    return document, metadata


def _understand(metadata: dict[str, str]) -> BlockHeader:
    start = int(metadata["start"])
    if start < 0:
        raise ValueError(f"a block cannot start at {start}")
    return BlockHeader(
        key=BlockKey(metadata["key"]),
        parent=BlockKey(metadata["parent"]),
        namespace=Namespace(metadata["namespace"]),
        kind=BlockKind(metadata["kind"]),
        start=start,
        tokens=tokens_from_bytes(bytes.fromhex(metadata["tokens"])),
    )


def _part_layout(name: str, described: object) -> PartLayout:
    if not isinstance(described, dict):
        raise TypeError(f"part {name!r} is not described")
    dtype, shape, offsets = (described[key] for key in ("dtype", "shape", "data_offsets"))
    if not _are_counts(shape) or not _are_counts(offsets):
        raise TypeError(f"part {name!r} has no numbers for its size")
    begin, end = offsets
    if end - begin != prod(shape) * _ITEMSIZE[dtype]:
        raise ValueError(f"part {name!r} has {end - begin} bytes for its shape {shape}")
    return PartLayout(name, dtype, tuple(shape), end - begin)


def _are_counts(numbers: object) -> TypeGuard[list[int]]:
    """Whether it is a list of whole numbers from 0 on."""
    return isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers)
