"""Memory and disk, seen as one; the contract of all stores is tried in tests/contracts."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_part
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.observed_stores import PATIENCE_S, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.application.tiered_store import TieredStore
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import PartId, PartKind, StoredPart
from semantic.domain.block_hash import token_bytes
from semantic.domain.errors import CachePersistenceError

PARTS = [make_part((number,), kind=kind) for number in range(3) for kind in PartKind]
FIRST, SECOND, *_ = PARTS


class Tiers:
    def __init__(self, limit_bytes: int = 1 << 20) -> None:
        self.disk = ObservedBlocks()
        self.writes = WriteBehind(self.disk, MemoryAgentStore(), limit_bytes, RecordedTelemetry())
        self.store = TieredStore(self.disk, self.writes)

    def settle(self) -> None:
        self.disk.writing.open()
        written = threading.Event()
        self.writes.discard(NAMESPACE, (), lambda _: written.set())
        assert written.wait(PATIENCE_S)

    def close(self) -> None:
        self.disk.writing.open()
        assert self.writes.close(PATIENCE_S)


@pytest.fixture
def tiers() -> Iterator[Tiers]:
    made = Tiers()
    yield made
    made.close()


def test_what_was_put_is_read_before_it_is_on_disk_and_after(tiers: Tiers) -> None:
    tiers.disk.writing.shut()
    tiers.store.put(FIRST)
    assert not tiers.disk.exists(NAMESPACE, FIRST.header.id)
    assert tiers.store.get(NAMESPACE, FIRST.header.id) is FIRST
    tiers.settle()
    assert tiers.disk.exists(NAMESPACE, FIRST.header.id)
    assert tiers.writes.all_pending() == ()
    assert tiers.store.get(NAMESPACE, FIRST.header.id) == FIRST


def test_what_waits_is_of_its_own_namespace(tiers: Tiers) -> None:
    tiers.disk.writing.shut()
    tiers.store.put(FIRST)
    assert tiers.store.get(OTHER_NAMESPACE, FIRST.header.id) is None
    assert list(tiers.store.outlines(OTHER_NAMESPACE)) == []
    assert tiers.store.tokens(OTHER_NAMESPACE, [FIRST.header.key]) == {}


def test_without_room_nothing_of_several_is_left_behind() -> None:
    tiers = Tiers(limit_bytes=FIRST.nbytes + SECOND.nbytes - 1)
    with pytest.raises(CachePersistenceError):
        tiers.store.put(FIRST, SECOND)
    tiers.settle()
    assert list(tiers.store.outlines(NAMESPACE)) == []
    tiers.store.put(FIRST)
    assert tiers.store.get(NAMESPACE, FIRST.header.id) == FIRST
    tiers.close()
    with pytest.raises(CachePersistenceError):
        tiers.store.put(SECOND)


def test_what_cannot_be_deleted_is_told_and_stays(tiers: Tiers) -> None:
    tiers.store.put(FIRST, SECOND)
    tiers.disk.journal.undeletable = {FIRST.header.id}
    with pytest.raises(CachePersistenceError):
        tiers.store.delete(NAMESPACE, FIRST.header.id)
    assert tiers.store.exists(NAMESPACE, FIRST.header.id)


def test_parts_are_deleted_in_the_order_that_was_asked_for(tiers: Tiers) -> None:
    tiers.store.put(*PARTS)
    names = [part.header.id for part in PARTS]
    tiers.store.delete(NAMESPACE, *names)
    assert [part for action, part in tiers.disk.journal.entries if action == "delete"] == names


def test_on_its_way_a_part_is_never_in_neither_place() -> None:
    """Readers look as fast as they can while parts go to the disk one by one."""
    tiers = Tiers()
    parts = [make_part((number,)) for number in range(200)]
    gone: list[StoredPart] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for part in tuple(known):
                found = tiers.store.get(NAMESPACE, part.header.id)
                listed = {one.id for one in tiers.store.outlines(NAMESPACE)}
                if found is None or part.header.id not in listed:
                    gone.append(part)

    known: list[StoredPart] = []
    reader = threading.Thread(target=look)
    reader.start()
    for part in parts:
        tiers.store.put(part)
        known[:] = [part]
    tiers.settle()
    done.set()
    reader.join()
    tiers.close()
    assert gone == []


class TieredMachine(RuleBasedStateMachine):
    """Whatever is on disk by now, what can be seen is what was put and not deleted."""

    @initialize()
    def open(self) -> None:
        self.tiers = Tiers()
        self.model: dict[PartId, StoredPart] = {}

    @rule(part=st.sampled_from(PARTS))
    def put(self, part: StoredPart) -> None:
        self.tiers.store.put(part)
        self.model.setdefault(part.header.id, part)

    @rule(part=st.sampled_from(PARTS))
    def delete(self, part: StoredPart) -> None:
        held = not self.tiers.disk.writing._open.is_set()
        self.tiers.disk.writing.open()
        self.tiers.store.delete(NAMESPACE, part.header.id)
        self.model.pop(part.header.id, None)
        if held:
            self.tiers.disk.writing.shut()

    @rule()
    def hold_up(self) -> None:
        self.tiers.disk.writing.shut()

    @rule()
    def let_go(self) -> None:
        self.tiers.settle()

    @invariant()
    def shows_what_was_put(self) -> None:
        store = self.tiers.store
        for part in PARTS:
            name, known = part.header.id, self.model.get(part.header.id)
            assert store.get(NAMESPACE, name) == known
            assert store.exists(NAMESPACE, name) == (known is not None)
            assert store.nbytes(NAMESPACE, name) == (known.nbytes if known else 0)
        headers = [part.header for part in self.model.values()]
        outlines = list(store.outlines(NAMESPACE))
        assert len(outlines) == len(headers)
        assert set(outlines) == {one.outline for one in headers}
        assert {one.id: one for one in store.headers(NAMESPACE)} == {one.id: one for one in headers}
        keys = [part.header.key for part in PARTS]
        assert store.tokens(NAMESPACE, keys) == {
            one.key: token_bytes(one.tokens) for one in headers
        }

    def teardown(self) -> None:
        self.tiers.close()


TestTieredMachine = TieredMachine.TestCase
TestTieredMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
