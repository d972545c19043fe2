"""How a part of a block is written down: one safetensors file, its header signed for its payload.

    8 bytes   length of the header, little-endian
    header    JSON: what the part is, in `__metadata__`, and what its tensors are, in their order
    payload   the tensors' bytes, without gaps, to the end of the file

A part may have no tensors: its header is all there is then.

`payload_xxh3` in the header is the digest of what the tensors are and of the payload,
`header_xxh3` that of everything before the payload, itself read as zeros. Together they cover
every bit of the file, and a header can be trusted without reading its payload. They find damage,
not forgery.

The file is put together here and not by the safetensors library, whose writer copies a part
twice while it holds the interpreter's lock: 20 ms of 12 MB in which no token is decoded. The
library is the judge in the tests. Decides about bytes; does no I/O.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeGuard

import xxhash

from semantic.domain.block import BlockHeader, PartKind, StoredPart
from semantic.domain.block_hash import token_bytes, tokens_from_bytes
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.ids import BlockKey, Namespace

FORMAT = "semantic-block/3"

PREFIX_BYTES = 8
"""Bytes in which a safetensors file says how long its header is."""

MAX_HEADER_BYTES = 1 << 20
"""A part's header takes some 3 KB; a damaged length must not make us read gigabytes."""

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
class TensorLayout:
    """A tensor without its bytes, of which there are `nbytes`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class PartLayout:
    """What a file's header says. The tensors' bytes follow one another from `payload` on."""

    header: BlockHeader
    tensors: tuple[TensorLayout, ...]
    payload_digest: str
    payload: int
    """Where the payload begins."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.payload + sum(tensor.nbytes for tensor in self.tensors)


def encode(part: StoredPart) -> tuple[bytes, ...]:
    """The bytes of a part's file, in pieces: the tensors' own bytes are not copied.

    Raises:
        CachePersistenceError: if the part is not one that could be read back as it is.
    """
    tensors = tuple(TensorLayout(t.name, t.dtype, t.shape, len(t.data)) for t in part.tensors)
    digest = payload_digest_of(tensors)
    for tensor in part.tensors:
        digest.update(tensor.data)
    try:
        head = _head(part.header, tensors, digest.hexdigest())
        layout = decode_head(head)
    except (CacheCorruptionError, ValueError, OverflowError) as error:
        raise CachePersistenceError(f"this part cannot be written down: {error}") from error
    if (layout.header, layout.tensors) != (part.header, tensors):
        raise CachePersistenceError("this part would not be read back as it is")
    return (head, *(tensor.data for tensor in part.tensors))


def payload_digest_of(tensors: Sequence[TensorLayout]) -> "xxhash.xxh3_128":
    """The digest of a payload, to be fed with its bytes.

    It begins with what the tensors are: the same bytes under other names are another payload, and
    a header that was signed anew cannot say otherwise.
    """
    described = [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]
    return xxhash.xxh3_128(json.dumps(described).encode())


def header_length(prefix: bytes) -> int:
    """Length of the header behind a file's first `PREFIX_BYTES` bytes.

    Raises:
        CacheCorruptionError: if no part's header is that long.
    """
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise CacheCorruptionError(f"a header of {length} bytes; {MAX_HEADER_BYTES} are allowed")
    return length


def decode_head(head: bytes) -> PartLayout:
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
        tensors = tuple(_tensor_layout(name, tensor) for name, tensor in described.items())
        payload_digest = metadata["payload_xxh3"]
        # Writing it again is the strictest reading: the digests, the offsets, each comma.
        written = _head(header, tensors, payload_digest)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CacheCorruptionError(f"the header cannot be understood: {error}") from error
    if written != head:
        raise CacheCorruptionError("the header differs from what was written")
    return PartLayout(header, tensors, payload_digest, payload=len(head))


def _head(header: BlockHeader, tensors: Sequence[TensorLayout], payload_digest: str) -> bytes:
    """Everything before the payload. ValueError or OverflowError if it cannot be written.

    Of two tensors of one name only the last stands in it: `encode` sees that when it reads again.
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
    for tensor in tensors:
        document[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [position, position + tensor.nbytes],
        }
        position += tensor.nbytes
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-(PREFIX_BYTES + len(text)) % _ALIGNMENT)
    unsigned = len(text).to_bytes(PREFIX_BYTES, "little") + text
    # Nothing that could look like the unsigned digest stands before it.
    digest = xxhash.xxh3_128_hexdigest(unsigned)
    return unsigned.replace(_UNSIGNED.encode(), digest.encode(), 1)


def _parse(head: bytes) -> tuple[dict[str, object], dict[str, str]]:
    """Tensors and metadata of a safetensors header, as they stand there."""
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
        kind=PartKind(metadata["kind"]),
        start=start,
        tokens=tokens_from_bytes(bytes.fromhex(metadata["tokens"])),
    )


def _tensor_layout(name: str, described: object) -> TensorLayout:
    if not isinstance(described, dict):
        raise TypeError(f"tensor {name!r} is not described")
    dtype, shape, offsets = (described[key] for key in ("dtype", "shape", "data_offsets"))
    if not _are_counts(shape) or not _are_counts(offsets):
        raise TypeError(f"tensor {name!r} has no numbers for its size")
    begin, end = offsets
    if end - begin != prod(shape) * _ITEMSIZE[dtype]:
        raise ValueError(f"tensor {name!r} has {end - begin} bytes for its shape {shape}")
    return TensorLayout(name, dtype, tuple(shape), end - begin)


def _are_counts(numbers: object) -> TypeGuard[list[int]]:
    """Whether it is a list of whole numbers from 0 on."""
    return isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers)
