import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import safetensors
import xxhash
from tests.fakes.blocks import make_part, without_tensors

from semantic.adapters.outbound.storage.block_format import (
    FORMAT,
    MAX_HEADER_BYTES,
    PREFIX_BYTES,
    decode_head,
    encode,
    header_length,
)
from semantic.domain.block import PartKind, StoredPart, Tensor
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)

PART = make_part()
HEAD = encode(PART)[0]
UNSIGNED = "0" * 32


def with_head(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The head of `PART` with a changed document, properly signed."""
    document = json.loads(HEAD[PREFIX_BYTES:])
    document["__metadata__"]["header_xxh3"] = UNSIGNED
    change(document)
    return signed(json.dumps(document, separators=(",", ":")).encode())


def signed(text: bytes) -> bytes:
    text += b" " * (-len(text) % 8)
    unsigned = len(text).to_bytes(PREFIX_BYTES, "little") + text
    digest = xxhash.xxh3_128_hexdigest(unsigned)
    return unsigned.replace(UNSIGNED.encode(), digest.encode(), 1)


EACH_KIND = pytest.mark.parametrize(
    "part",
    [
        *(make_part(kind=kind) for kind in PartKind),
        *(without_tensors(make_part(kind=kind)) for kind in PartKind),
    ],
    ids=[
        *(kind.value for kind in PartKind),
        *(f"{kind.value} without tensors" for kind in PartKind),
    ],
)


@EACH_KIND
def test_mlx_reads_a_part_bit_for_bit(tmp_path: Path, part: StoredPart) -> None:
    path = tmp_path / "part.safetensors"
    path.write_bytes(b"".join(encode(part)))
    loaded = mx.load(str(path))
    assert isinstance(loaded, dict)
    assert set(loaded) == {tensor.name for tensor in part.tensors}
    for tensor in part.tensors:
        array = loaded[tensor.name]
        assert array.shape == tensor.shape
        assert (
            array.dtype == {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}[tensor.dtype]
        )
        assert bytes(memoryview(array.view(mx.uint8))) == tensor.data  # type: ignore[arg-type] # the stub misses the buffer protocol


@EACH_KIND
def test_the_strict_reader_of_safetensors_accepts_a_part(part: StoredPart) -> None:
    data = b"".join(encode(part))
    found = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call] # a bare stub
    assert found == {
        tensor.name: {
            "shape": list(tensor.shape),
            "dtype": tensor.dtype,
            "data": bytearray(tensor.data),
        }
        for tensor in part.tensors
    }


@pytest.mark.parametrize(
    ("part", "digest"),
    [
        (make_part(), "badc2d371580cbe874466841ea039b30"),
        (make_part(kind=PartKind.TAIL), "bab3cb19107ad0a7acd1ef26c37641a3"),
        (make_part(kind=PartKind.SLIDING), "67be18e0714749cc530aed81ce75ec9f"),
        (make_part(kind=PartKind.STATE), "046230a24d14277a29db17cb9dd8d589"),
        (without_tensors(make_part()), "937101a68a45c99c3a3652a972aeb1fc"),
    ],
    ids=["full", "tail", "sliding", "state", "no tensors"],
)
def test_the_bytes_of_a_format_stay_as_they_are(part: StoredPart, digest: str) -> None:
    data = b"".join(encode(part))
    assert xxhash.xxh3_128_hexdigest(data) == digest, "other bytes need another format version"


@EACH_KIND
def test_the_header_tells_everything_but_the_bytes(part: StoredPart) -> None:
    layout = decode_head(encode(part)[0])
    assert layout.header == part.header
    assert [(t.name, t.dtype, t.shape, t.nbytes) for t in layout.tensors] == [
        (t.name, t.dtype, t.shape, len(t.data)) for t in part.tensors
    ]
    assert layout.size == len(b"".join(encode(part)))
    assert layout.payload % 8 == 0


def test_the_signature_of_the_tests_is_the_real_one() -> None:
    assert with_head(lambda _: None) == HEAD


def with_tensors(*tensors: Tensor) -> StoredPart:
    return replace(PART, tensors=tensors)


@pytest.mark.parametrize(
    "tensors",
    [
        (Tensor("keys.0", "F7", (1,), b"1"),),
        (Tensor("keys.0", "F32", (2,), b"1234"),),
        (Tensor("keys.0", "U8", (1,), b"1"), Tensor("keys.0", "U8", (1,), b"2")),
        (Tensor("__metadata__", "U8", (1,), b"1"),),
        (Tensor("keys.0", "U8", (-1, -1), b"1"),),
        tuple(Tensor(f"{number:0500}", "U8", (1,), b"1") for number in range(2200)),
    ],
    ids=["type", "size", "twice", "reserved", "negative", "long header"],
)
def test_refuses_to_write_what_could_not_be_read_back(tensors: tuple[Tensor, ...]) -> None:
    with pytest.raises(CachePersistenceError):
        encode(with_tensors(*tensors))


@pytest.mark.parametrize(
    "header",
    [
        replace(PART.header, start=-1),
        replace(PART.header, tokens=(-1,)),
        replace(PART.header, tokens=(2**32,)),
    ],
    ids=["start", "negative token", "large token"],
)
def test_refuses_impossible_headers(header: Any) -> None:
    with pytest.raises(CachePersistenceError):
        encode(replace(PART, header=header))


def test_refuses_a_tensor_whose_shape_is_no_tuple() -> None:
    shape: Any = [1]
    with pytest.raises(CachePersistenceError):
        encode(with_tensors(Tensor("keys.0", "U8", shape, b"1")))


def test_a_header_longer_than_any_is_damage() -> None:
    assert header_length(MAX_HEADER_BYTES.to_bytes(8, "little")) == MAX_HEADER_BYTES
    with pytest.raises(CacheCorruptionError, match="1048577"):
        header_length((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))


@pytest.mark.parametrize("version", ["semantic-block/1", "semantic-block/2", "", "safetensors"])
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
        b'{"__metadata__":{"format":"semantic-block/3"}}',
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
        lambda d: d["__metadata__"].update(kind="FULL"),
        lambda d: d["__metadata__"].update(tokens="0"),
        lambda d: d["__metadata__"].update(tokens="000000"),
        lambda d: d["__metadata__"].update(tokens="AA000000"),
        lambda d: d["__metadata__"].update(more="1"),
        lambda d: d["__metadata__"].pop("parent"),
        lambda d: d["__metadata__"].pop("payload_xxh3"),
        lambda d: d.pop("values.0"),
        lambda d: d.update({"keys.0": 1}),
        lambda d: d.update({"keys.1": d["keys.0"]}),
        lambda d: d.update({"values.0": d.pop("values.0")}),
        lambda d: d["keys.0"].update(more=1),
        lambda d: d["keys.0"].pop("shape"),
        lambda d: d["keys.0"].update(dtype="F7"),
        lambda d: d["keys.0"].update(dtype=["F16"]),
        lambda d: d["keys.0"].update(shape=[-2, -1, 1, 3, 8]),
        lambda d: d["keys.0"].update(shape=[2.0, 1, 1, 3, 8]),
        lambda d: d["keys.0"].update(shape=[2, True, 1, 3, 8]),
        lambda d: d["keys.0"].update(shape="2"),
        lambda d: d["keys.0"].update(data_offsets=[0, 96]),
        lambda d: d["keys.0"].update(data_offsets=[97, 193]),
        lambda d: d["keys.0"].update(data_offsets=[96]),
        lambda d: d["keys.0"].update(data_offsets=[192, 96]),
    ],
)
def test_signed_but_strange_headers_are_damage(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(CacheCorruptionError):
        decode_head(with_head(change))


@EACH_KIND
def test_every_bit_of_the_header_is_covered(part: StoredPart) -> None:
    head = encode(part)[0]
    for bit in range(len(head) * 8):
        damaged = bytearray(head)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CacheCorruptionError, IncompatibleCacheError)):
            decode_head(bytes(damaged))
