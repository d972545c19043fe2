"""What every block store does. Each implementation is run through the same tests."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread

import pytest
from tests.fakes.blocks import (
    NAMESPACE,
    OTHER_NAMESPACE,
    make_part,
    path_in,
    plant_secret,
    without_tensors,
)
from tests.fakes.faulty_blocks import FaultyBlocks
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.memory_block_store import MemoryBlockStore
from tests.fakes.observed_stores import PATIENCE_S, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.application.tiered_store import TieredStore
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import PartId, PartKind, Tensor
from semantic.domain.block_hash import token_bytes
from semantic.domain.errors import CacheCorruptionError
from semantic.domain.ids import Namespace
from semantic.ports.block_store import BlockStore


@dataclass(frozen=True, slots=True)
class Candidate:
    """A store, and how to damage one of its entries."""

    store: BlockStore
    damage: Callable[[Namespace, PartId], None]
    writes: WriteBehind | None = None


def on_disk(root: Path) -> Candidate:
    def damage(namespace: Namespace, part: PartId) -> None:
        path = path_in(root, namespace, part)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    plant_secret(root)
    return Candidate(IndexedBlocks(root, RecordedTelemetry(), FixedClock()), damage)


def in_files(root: Path) -> Candidate:
    return replace(on_disk(root), store=BlockFiles(root, RecordedTelemetry()))


def in_memory(_: Path) -> Candidate:
    store = MemoryBlockStore()
    return Candidate(store, store.damage)


def with_faults(root: Path) -> Candidate:
    below = on_disk(root)
    return replace(below, store=FaultyBlocks(below.store))


def tiered(root: Path) -> Candidate:
    """Memory over disk; damaged is what has got there."""
    below = on_disk(root)
    writes = WriteBehind(below.store, MemoryAgentStore(), 1 << 20, RecordedTelemetry())

    def damage(namespace: Namespace, part: PartId) -> None:
        settle(writes)
        below.damage(namespace, part)

    return Candidate(TieredStore(below.store, writes), damage, writes)


def tiered_and_slow(root: Path) -> Candidate:
    """The same while nothing gets to the disk, unless something has to."""
    del root
    below = ObservedBlocks()
    writes = WriteBehind(below, MemoryAgentStore(), 1 << 20, RecordedTelemetry())
    store = HeldUp(below, writes)
    below.writing.shut()

    def damage(namespace: Namespace, part: PartId) -> None:
        below.writing.open()
        settle(writes)
        below.damage(namespace, part)

    return Candidate(store, damage, writes)


class HeldUp(TieredStore):
    """What it puts stays in memory until something is deleted."""

    def __init__(self, below: ObservedBlocks, writes: WriteBehind) -> None:
        super().__init__(below, writes)
        self._gate = below.writing

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        self._gate.open()
        super().delete(namespace, *parts)
        self._gate.shut()


def settle(writes: WriteBehind) -> None:
    """Return once all that was put is on disk."""
    written = Event()
    writes.discard(NAMESPACE, (), lambda _: written.set())
    assert written.wait(PATIENCE_S)


@pytest.fixture(params=[on_disk, in_files, in_memory, with_faults, tiered, tiered_and_slow])
def candidate(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Candidate]:
    made: Candidate = request.param(tmp_path / "store")
    yield made
    if made.writes is not None:
        if isinstance(made.store, HeldUp):
            made.store.delete(NAMESPACE)
        assert made.writes.close(PATIENCE_S)


@pytest.fixture
def store(candidate: Candidate) -> BlockStore:
    return candidate.store


@pytest.fixture(params=PartKind)
def kind(request: pytest.FixtureRequest) -> PartKind:
    found: PartKind = request.param
    return found


class TestBlockStore:
    def test_returns_exactly_what_was_put(self, store: BlockStore, kind: PartKind) -> None:
        part = make_part((7, 0, 2**32 - 1), kind=kind)
        store.put(part)
        assert store.get(NAMESPACE, part.header.id) == part

    def test_knows_nothing_of_absent_parts(self, store: BlockStore, kind: PartKind) -> None:
        part = make_part(kind=kind).header.id
        assert store.get(NAMESPACE, part) is None
        assert not store.exists(NAMESPACE, part)
        assert store.nbytes(NAMESPACE, part) == 0
        assert list(store.headers(NAMESPACE)) == []

    def test_first_writer_wins(self, store: BlockStore, kind: PartKind) -> None:
        first, second = make_part(kind=kind, seed=1), make_part(kind=kind, seed=2)
        store.put(first)
        store.put(second)
        assert store.get(NAMESPACE, first.header.id) == first

    def test_of_many_writers_at_once_one_wins(self, store: BlockStore) -> None:
        parts = [make_part(seed=seed) for seed in range(8)]
        writers = [Thread(target=store.put, args=(part,)) for part in parts]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert store.get(NAMESPACE, parts[0].header.id) in parts

    def test_exists_tells_of_a_kept_part(self, store: BlockStore, kind: PartKind) -> None:
        part = make_part(kind=kind)
        store.put(part)
        assert store.exists(NAMESPACE, part.header.id)

    def test_nbytes_tells_what_a_part_takes_at_least(
        self, store: BlockStore, kind: PartKind
    ) -> None:
        part = make_part(kind=kind)
        store.put(part)
        assert store.nbytes(NAMESPACE, part.header.id) >= part.nbytes > 0

    def test_namespaces_do_not_see_each_other(self, store: BlockStore) -> None:
        part = make_part()
        store.put(part)
        assert store.get(OTHER_NAMESPACE, part.header.id) is None
        assert not store.exists(OTHER_NAMESPACE, part.header.id)
        assert store.nbytes(OTHER_NAMESPACE, part.header.id) == 0
        assert list(store.headers(OTHER_NAMESPACE)) == []

    def test_parts_of_one_block_do_not_stand_in_for_each_other(
        self, store: BlockStore, kind: PartKind
    ) -> None:
        part = make_part(kind=kind)
        store.put(part)
        for other in set(PartKind) - {kind}:
            name = PartId(part.header.key, other)
            assert store.get(NAMESPACE, name) is None
            assert not store.exists(NAMESPACE, name)
            assert store.nbytes(NAMESPACE, name) == 0
            store.delete(NAMESPACE, name)
        assert store.get(NAMESPACE, part.header.id) == part

    def test_deleted_parts_are_gone_and_those_beside_them_stay(
        self, store: BlockStore, kind: PartKind
    ) -> None:
        parts = {each: make_part(kind=each) for each in PartKind}
        for part in parts.values():
            store.put(part)
        deleted = parts.pop(kind).header.id
        store.delete(NAMESPACE, deleted)
        assert store.get(NAMESPACE, deleted) is None
        assert not store.exists(NAMESPACE, deleted)
        assert {header.id: header for header in store.headers(NAMESPACE)} == {
            part.header.id: part.header for part in parts.values()
        }
        assert all(store.get(NAMESPACE, part.header.id) == part for part in parts.values())

    def test_deleting_an_absent_part_is_no_error(self, store: BlockStore, kind: PartKind) -> None:
        store.delete(NAMESPACE, make_part(kind=kind).header.id)

    def test_a_deleted_part_can_be_put_again(self, store: BlockStore, kind: PartKind) -> None:
        first, second = make_part(kind=kind, seed=1), make_part(kind=kind, seed=2)
        store.put(first)
        store.delete(NAMESPACE, first.header.id)
        store.put(second)
        assert store.get(NAMESPACE, second.header.id) == second

    def test_headers_list_all_parts_of_a_namespace(self, store: BlockStore) -> None:
        parent = make_part((1, 2))
        tail, sliding, state = (
            make_part((3,), parent=parent.header, kind=kind)
            for kind in (PartKind.TAIL, PartKind.SLIDING, PartKind.STATE)
        )
        stranger = make_part(namespace=OTHER_NAMESPACE)
        for part in (parent, tail, sliding, state, stranger):
            store.put(part)
        found = list(store.headers(NAMESPACE))
        assert {header.id: header for header in found} == {
            part.header.id: part.header for part in (parent, tail, sliding, state)
        }
        assert len(found) == 4

    def test_several_parts_are_put_together(self, store: BlockStore) -> None:
        parent = make_part((1, 2))
        parts = [parent, make_part((3,), parent=parent.header), make_part(kind=PartKind.STATE)]
        store.put(parent)
        store.put(*parts)
        assert all(store.get(NAMESPACE, part.header.id) == part for part in parts)
        store.delete(NAMESPACE, *(part.header.id for part in parts))
        assert list(store.headers(NAMESPACE)) == []

    def test_outlines_are_headers_without_tokens(self, store: BlockStore) -> None:
        parts = [make_part(kind=kind) for kind in PartKind]
        store.put(*parts)
        assert set(store.outlines(NAMESPACE)) == {part.header.outline for part in parts}
        assert list(store.outlines(OTHER_NAMESPACE)) == []

    def test_the_tokens_of_a_block_are_known_by_any_of_its_parts(
        self, store: BlockStore, kind: PartKind
    ) -> None:
        part = make_part((7, 0, 2**32 - 1), kind=kind)
        absent = make_part((8,)).header.key
        store.put(part)
        found = store.tokens(NAMESPACE, [part.header.key, absent])
        assert found == {part.header.key: token_bytes((7, 0, 2**32 - 1))}
        assert store.tokens(OTHER_NAMESPACE, [part.header.key]) == {}
        store.delete(NAMESPACE, part.header.id)
        assert store.tokens(NAMESPACE, [part.header.key]) == {}

    def test_damage_is_found_once_and_then_absent(
        self, candidate: Candidate, kind: PartKind
    ) -> None:
        part = make_part(kind=kind)
        candidate.store.put(part)
        candidate.damage(NAMESPACE, part.header.id)
        with pytest.raises(CacheCorruptionError):
            candidate.store.get(NAMESPACE, part.header.id)
        assert candidate.store.get(NAMESPACE, part.header.id) is None
        assert not candidate.store.exists(NAMESPACE, part.header.id)

    def test_damage_of_one_part_leaves_the_others(
        self, candidate: Candidate, kind: PartKind
    ) -> None:
        parts = {each: make_part(kind=each) for each in PartKind}
        for part in parts.values():
            candidate.store.put(part)
        damaged = parts.pop(kind).header.id
        candidate.damage(NAMESPACE, damaged)
        with pytest.raises(CacheCorruptionError):
            candidate.store.get(NAMESPACE, damaged)
        for part in parts.values():
            assert candidate.store.get(NAMESPACE, part.header.id) == part

    def test_a_damaged_part_can_be_put_again(self, candidate: Candidate, kind: PartKind) -> None:
        first, second = make_part(kind=kind, seed=1), make_part(kind=kind, seed=2)
        candidate.store.put(first)
        candidate.damage(NAMESPACE, first.header.id)
        candidate.store.put(second)
        assert candidate.store.get(NAMESPACE, second.header.id) == second

    def test_an_empty_tensor_comes_back(self, store: BlockStore) -> None:
        whole = make_part()
        empty = Tensor("empty", "F16", (0, 4), b"")
        part = replace(whole, tensors=(empty, *whole.tensors, replace(empty, name="last")))
        store.put(part)
        assert store.get(NAMESPACE, part.header.id) == part

    def test_a_part_without_tensors_comes_back(self, store: BlockStore, kind: PartKind) -> None:
        part = without_tensors(make_part(kind=kind))
        store.put(part)
        assert store.get(NAMESPACE, part.header.id) == part
        assert store.exists(NAMESPACE, part.header.id)
        assert list(store.headers(NAMESPACE)) == [part.header]

    def test_many_tensors_come_back_in_their_order(self, store: BlockStore, kind: PartKind) -> None:
        (tensor, *_) = make_part(kind=kind).tensors
        names = [f"state.{n}.{m}" for n in (10, 2, 0) for m in range(40)]
        part = replace(
            make_part(kind=kind), tensors=tuple(replace(tensor, name=name) for name in names)
        )
        store.put(part)
        assert store.get(NAMESPACE, part.header.id) == part
