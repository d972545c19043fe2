"""What every block store does. Each implementation is run through the same tests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import pytest
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_block
from tests.fakes.memory_block_store import MemoryBlockStore
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.domain.block import BlockKind
from semantic.domain.errors import CacheCorruptionError
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.block_store import BlockStore


@dataclass(frozen=True, slots=True)
class Candidate:
    """A store, and how to damage one of its entries."""

    store: BlockStore
    damage: Callable[[Namespace, BlockKey], None]


def on_disk(root: Path) -> Candidate:
    def damage(namespace: Namespace, key: BlockKey) -> None:
        (path,) = (root / "blk" / namespace[:12] / key[:2]).glob(f"{key}.*.st")
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    return Candidate(BlockFiles(root, RecordedTelemetry()), damage)


def in_memory(_: Path) -> Candidate:
    store = MemoryBlockStore()
    return Candidate(store, store.damage)


@pytest.fixture(params=[on_disk, in_memory])
def candidate(request: pytest.FixtureRequest, tmp_path: Path) -> Candidate:
    made: Candidate = request.param(tmp_path / "store")
    return made


@pytest.fixture
def store(candidate: Candidate) -> BlockStore:
    return candidate.store


class TestBlockStore:
    @pytest.mark.parametrize("kind", BlockKind)
    def test_returns_exactly_what_was_put(self, store: BlockStore, kind: BlockKind) -> None:
        block = make_block((7, 0, 2**32 - 1), kind=kind)
        store.put(block)
        assert store.get(NAMESPACE, block.header.key) == block

    def test_knows_nothing_of_absent_blocks(self, store: BlockStore) -> None:
        key = make_block().header.key
        assert store.get(NAMESPACE, key) is None
        assert not store.exists(NAMESPACE, key)
        assert list(store.headers(NAMESPACE)) == []

    def test_first_writer_wins(self, store: BlockStore) -> None:
        first, second = make_block(seed=1), make_block(seed=2)
        store.put(first)
        store.put(second)
        assert store.get(NAMESPACE, first.header.key) == first

    def test_of_many_writers_at_once_one_wins(self, store: BlockStore) -> None:
        blocks = [make_block(seed=seed) for seed in range(8)]
        writers = [Thread(target=store.put, args=(block,)) for block in blocks]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert store.get(NAMESPACE, blocks[0].header.key) in blocks

    def test_exists_tells_of_a_kept_block(self, store: BlockStore) -> None:
        block = make_block()
        store.put(block)
        assert store.exists(NAMESPACE, block.header.key)

    def test_namespaces_do_not_see_each_other(self, store: BlockStore) -> None:
        block = make_block()
        store.put(block)
        assert store.get(OTHER_NAMESPACE, block.header.key) is None
        assert not store.exists(OTHER_NAMESPACE, block.header.key)
        assert list(store.headers(OTHER_NAMESPACE)) == []

    def test_deleted_blocks_are_gone(self, store: BlockStore) -> None:
        block, other = make_block((1,)), make_block((2,))
        store.put(block)
        store.put(other)
        store.delete(NAMESPACE, block.header.key)
        assert store.get(NAMESPACE, block.header.key) is None
        assert not store.exists(NAMESPACE, block.header.key)
        assert list(store.headers(NAMESPACE)) == [other.header]

    def test_deleting_an_absent_block_is_no_error(self, store: BlockStore) -> None:
        store.delete(NAMESPACE, make_block().header.key)

    def test_a_deleted_block_can_be_put_again(self, store: BlockStore) -> None:
        first, second = make_block(seed=1), make_block(seed=2)
        store.put(first)
        store.delete(NAMESPACE, first.header.key)
        store.put(second)
        assert store.get(NAMESPACE, second.header.key) == second

    def test_headers_list_all_blocks_of_a_namespace(self, store: BlockStore) -> None:
        parent = make_block((1, 2))
        child = make_block((3,), parent=parent.header, kind=BlockKind.TAIL)
        stranger = make_block(namespace=OTHER_NAMESPACE)
        for block in (parent, child, stranger):
            store.put(block)
        found = {header.key: header for header in store.headers(NAMESPACE)}
        assert found == {block.header.key: block.header for block in (parent, child)}

    def test_damage_is_found_once_and_then_absent(self, candidate: Candidate) -> None:
        block = make_block()
        candidate.store.put(block)
        candidate.damage(NAMESPACE, block.header.key)
        with pytest.raises(CacheCorruptionError):
            candidate.store.get(NAMESPACE, block.header.key)
        assert candidate.store.get(NAMESPACE, block.header.key) is None
        assert not candidate.store.exists(NAMESPACE, block.header.key)

    def test_a_damaged_block_can_be_put_again(self, candidate: Candidate) -> None:
        first, second = make_block(seed=1), make_block(seed=2)
        candidate.store.put(first)
        candidate.damage(NAMESPACE, first.header.key)
        candidate.store.put(second)
        assert candidate.store.get(NAMESPACE, second.header.key) == second

    def test_an_empty_part_comes_back(self, store: BlockStore) -> None:
        full = make_block()
        empty = replace(full.parts[0], name="empty", shape=(0, 4), data=b"")
        block = replace(full, parts=(empty, *full.parts, replace(empty, name="last")))
        store.put(block)
        assert store.get(NAMESPACE, block.header.key) == block
