from dataclasses import replace

import pytest

from semantic.domain.block import BlockHeader, PartId, PartKind, StoredPart, Tensor, num_blocks
from semantic.domain.ids import DEFAULT_TENANT, BlockKey, Namespace

HEADER = BlockHeader(
    key=BlockKey("k"),
    parent=BlockKey("p"),
    namespace=Namespace("n"),
    kind=PartKind.TAIL,
    start=512,
    tokens=(1, 2, 3),
    tenant=DEFAULT_TENANT,
)


def test_a_block_ends_after_its_last_token() -> None:
    assert HEADER.end == 515


def test_a_part_is_named_by_its_block_and_its_kind() -> None:
    assert HEADER.id == PartId(BlockKey("k"), PartKind.TAIL)
    assert replace(HEADER, kind=PartKind.STATE).id == (BlockKey("k"), PartKind.STATE)


def test_a_part_weighs_what_its_tensors_weigh() -> None:
    tensors = (Tensor("keys", "U8", (3,), b"abc"), Tensor("values", "U8", (2,), b"de"))
    assert StoredPart(HEADER, tensors).nbytes == 5
    assert StoredPart(HEADER, ()).nbytes == 0


def test_a_header_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        HEADER.start = 0  # type: ignore[misc] # that is the point


def test_the_names_of_kinds_are_part_of_the_store() -> None:
    assert {kind.name: kind.value for kind in PartKind} == {
        "FULL": "full",
        "TAIL": "tail",
        "SLIDING": "sliding",
        "STATE": "state",
    }


def test_a_block_exists_by_one_part_only() -> None:
    assert [kind for kind in PartKind if kind.begins] == [PartKind.FULL, PartKind.TAIL]
    parts = [PartId(BlockKey("a"), kind) for kind in PartKind if kind is not PartKind.TAIL]
    assert num_blocks([*parts, PartId(BlockKey("b"), PartKind.TAIL)]) == 2
    assert num_blocks([]) == 0


def test_an_outline_is_a_header_without_its_tokens() -> None:
    outline = HEADER.outline
    assert outline.id == HEADER.id
    assert (outline.parent, outline.start, outline.length) == (
        HEADER.parent,
        HEADER.start,
        len(HEADER.tokens),
    )
    assert outline.header(HEADER.namespace, HEADER.tokens) == HEADER
