import pytest

from semantic.domain.block import BlockHeader, BlockKind, Part, StoredBlock
from semantic.domain.ids import BlockKey, Namespace

HEADER = BlockHeader(
    key=BlockKey("k"),
    parent=BlockKey("p"),
    namespace=Namespace("n"),
    kind=BlockKind.TAIL,
    start=512,
    tokens=(1, 2, 3),
)


def test_a_block_ends_after_its_last_token() -> None:
    assert HEADER.end == 515


def test_a_block_weighs_what_its_parts_weigh() -> None:
    parts = (Part("keys", "U8", (3,), b"abc"), Part("values", "U8", (2,), b"de"))
    assert StoredBlock(HEADER, parts).nbytes == 5
    assert StoredBlock(HEADER, ()).nbytes == 0


def test_a_block_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        HEADER.start = 0  # type: ignore[misc] # that is the point


def test_the_names_of_kinds_are_part_of_the_store() -> None:
    assert {kind.name: kind.value for kind in BlockKind} == {"FULL": "full", "TAIL": "tail"}
