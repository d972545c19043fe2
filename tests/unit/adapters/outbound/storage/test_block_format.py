import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import safetensors
import xxhash
from tests.fakes.blocks import make_block

from semantic.adapters.outbound.storage.block_format import (
    FORMAT,
    MAX_HEADER_BYTES,
    PREFIX_BYTES,
    decode_head,
    encode,
    header_length,
)
from semantic.domain.block import Part, StoredBlock
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)

BLOCK = make_block()
HEAD = encode(BLOCK)[0]
UNSIGNED = "0" * 32


def with_head(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The head of `BLOCK` with a changed document, properly signed."""
    document = json.loads(HEAD[PREFIX_BYTES:])
    document["__metadata__"]["header_xxh3"] = UNSIGNED
    change(document)
    return signed(json.dumps(document, separators=(",", ":")).encode())


def signed(text: bytes) -> bytes:
    text += b" " * (-len(text) % 8)
    unsigned = len(text).to_bytes(PREFIX_BYTES, "little") + text
    digest = xxhash.xxh3_128_hexdigest(unsigned)
    return unsigned.replace(UNSIGNED.encode(), digest.encode(), 1)


def with_parts(*parts: Part) -> StoredBlock:
    return replace(BLOCK, parts=parts)


def test_mlx_reads_a_block_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "block.safetensors"
    path.write_bytes(b"".join(encode(BLOCK)))
    loaded = mx.load(str(path))
    assert isinstance(loaded, dict)
    for part in BLOCK.parts:
        array = loaded[part.name]
        assert array.shape == part.shape
        assert bytes(memoryview(array.view(mx.uint16))) == part.data  # type: ignore[arg-type] # the stub misses the buffer protocol
    assert loaded["values"].dtype == mx.bfloat16
    assert loaded["keys"].dtype == mx.float16


def test_the_strict_reader_of_safetensors_accepts_a_block() -> None:
    data = b"".join(encode(BLOCK))
    found = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call] # a bare stub
    assert found == {
        part.name: {"shape": list(part.shape), "dtype": part.dtype, "data": bytearray(part.data)}
        for part in BLOCK.parts
    }


def test_the_bytes_of_a_format_stay_as_they_are() -> None:
    data = b"".join(encode(BLOCK))
    assert xxhash.xxh3_128_hexdigest(data) == "86ea01d70a47d056f4d23f37ad2ebbdd", (
        "other bytes need another format version"
    )


def test_the_header_tells_everything_but_the_bytes() -> None:
    layout = decode_head(HEAD)
    assert layout.header == BLOCK.header
    assert [(p.name, p.dtype, p.shape, p.nbytes) for p in layout.parts] == [
        (p.name, p.dtype, p.shape, len(p.data)) for p in BLOCK.parts
    ]
    assert layout.size == len(b"".join(encode(BLOCK)))
    assert layout.payload % 8 == 0


def test_the_signature_of_the_tests_is_the_real_one() -> None:
    assert with_head(lambda _: None) == HEAD


@pytest.mark.parametrize(
    "parts",
    [
        (Part("keys", "F7", (1,), b"1"),),
        (Part("keys", "F32", (2,), b"1234"),),
        (Part("keys", "U8", (1,), b"1"), Part("keys", "U8", (1,), b"2")),
        (Part("__metadata__", "U8", (1,), b"1"),),
        (Part("keys", "U8", (-1, -1), b"1"),),
        tuple(Part(f"{number:0500}", "U8", (1,), b"1") for number in range(2200)),
    ],
    ids=["type", "size", "twice", "reserved", "negative", "long header"],
)
def test_refuses_to_write_what_could_not_be_read_back(parts: tuple[Part, ...]) -> None:
    with pytest.raises(CachePersistenceError):
        encode(with_parts(*parts))


@pytest.mark.parametrize(
    "header",
    [
        replace(BLOCK.header, start=-1),
        replace(BLOCK.header, tokens=(-1,)),
        replace(BLOCK.header, tokens=(2**32,)),
    ],
    ids=["start", "negative token", "large token"],
)
def test_refuses_impossible_headers(header: Any) -> None:
    with pytest.raises(CachePersistenceError):
        encode(replace(BLOCK, header=header))


def test_refuses_a_part_whose_shape_is_no_tuple() -> None:
    shape: Any = [1]
    with pytest.raises(CachePersistenceError):
        encode(with_parts(Part("keys", "U8", shape, b"1")))


def test_a_header_longer_than_any_is_damage() -> None:
    assert header_length(MAX_HEADER_BYTES.to_bytes(8, "little")) == MAX_HEADER_BYTES
    with pytest.raises(CacheCorruptionError, match="1048577"):
        header_length((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))


@pytest.mark.parametrize("version", ["semantic-block/2", "", "safetensors"])
def test_another_format_is_incompatible(version: str) -> None:
    head = with_head(lambda d: d["__metadata__"].update(format=version))
    with pytest.raises(IncompatibleCacheError, match=FORMAT):
        decode_head(head)


def test_a_strangers_safetensors_file_is_incompatible() -> None:
    with pytest.raises(IncompatibleCacheError):
        decode_head(signed(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"[" * 200_000,
        b"\xff\xfe{\0}\0",
        b'{"__metadata__":[]}',
        b'{"__metadata__":{"format":1}}',
        b'{"__metadata__":{"format":"semantic-block/1"}}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "null", "list", "open", "deep", "utf-16", "meta", "version", "bare", "number"],
)
def test_headers_that_are_none_are_damage(text: bytes) -> None:
    with pytest.raises(CacheCorruptionError):
        decode_head(signed(text))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["__metadata__"].update(start="-1"),
        lambda d: d["__metadata__"].update(start="+0"),
        lambda d: d["__metadata__"].update(start="9" * 5000),
        lambda d: d["__metadata__"].update(kind="half"),
        lambda d: d["__metadata__"].update(tokens="0"),
        lambda d: d["__metadata__"].update(tokens="000000"),
        lambda d: d["__metadata__"].update(tokens="AA000000"),
        lambda d: d["__metadata__"].update(more="1"),
        lambda d: d["__metadata__"].pop("parent"),
        lambda d: d["__metadata__"].pop("payload_xxh3"),
        lambda d: d.update(keys=1),
        lambda d: d["keys"].update(more=1),
        lambda d: d["keys"].pop("shape"),
        lambda d: d["keys"].update(dtype="F7"),
        lambda d: d["keys"].update(dtype=["F16"]),
        lambda d: d["keys"].update(shape=[-2, -1, 1, 3, 8]),
        lambda d: d["keys"].update(shape=[2.0, 1, 1, 3, 8]),
        lambda d: d["keys"].update(shape=[2, True, 1, 3, 8]),
        lambda d: d["keys"].update(shape="2"),
        lambda d: d["keys"].update(data_offsets=[0, 96]),
        lambda d: d["keys"].update(data_offsets=[97, 193]),
        lambda d: d["keys"].update(data_offsets=[96]),
        lambda d: d["keys"].update(data_offsets=[192, 96]),
    ],
)
def test_signed_but_strange_headers_are_damage(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(CacheCorruptionError):
        decode_head(with_head(change))


def test_every_bit_of_the_header_is_covered() -> None:
    for bit in range(len(HEAD) * 8):
        damaged = bytearray(HEAD)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CacheCorruptionError, IncompatibleCacheError)):
            decode_head(bytes(damaged))
