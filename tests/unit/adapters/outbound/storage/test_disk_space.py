"""A store on a real disk stays within its cap, whatever it begins with."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_part
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.observed_stores import PATIENCE_S
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.disk_space import DiskSpace
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.application import store_totals
from semantic.application.space_keeper import Served, SpaceKeeper, SpaceLimits
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import BlockHeader, PartKind, StoredPart, Tensor
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import Namespace

SIZE = 256 << 10
CAP = 8 << 20


def sized(
    number: int, parent: BlockHeader | None = None, namespace: Namespace = NAMESPACE
) -> StoredPart:
    part = make_part((number,), parent=parent, namespace=namespace)
    return replace(part, tensors=(Tensor("x", "U8", (SIZE,), os.urandom(SIZE)),))


def allocated_in(root: Path) -> int:
    """What `du` says."""
    total = 0
    for path in (root, *root.rglob("*")):
        with suppress(FileNotFoundError):  # the store may be at work
            total += path.lstat().st_blocks * 512
    return total


@dataclass
class Store:
    root: Path
    blocks: IndexedBlocks
    space: DiskSpace
    clock: FixedClock
    telemetry: RecordedTelemetry

    def keeper(self, cap: int = CAP) -> SpaceKeeper:
        limits = SpaceLimits(cap, 1.0, 0, 0, True, 0.9, 0.8, 60.0)  # noqa: FBT003 - `writes`
        return SpaceKeeper(self.blocks, self.space, limits, self.clock, self.telemetry)

    def writes(self, cap: int = CAP) -> WriteBehind:
        keeper = self.keeper(cap)
        return WriteBehind(self.blocks, MemoryAgentStore(), 1 << 30, self.telemetry, keeper)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    root, clock, telemetry = tmp_path / "store", FixedClock(), RecordedTelemetry()
    blocks = IndexedBlocks(root, telemetry, clock)
    yield Store(root, blocks, DiskSpace(root, blocks, clock), clock, telemetry)
    blocks.close()


def test_everything_in_the_store_counts(store: Store) -> None:
    store.blocks.put(sized(1), sized(2, namespace=OTHER_NAMESPACE))
    for folder in ("tmp", "quarantine", "agents", "agents/deeper"):
        (store.root / folder).mkdir(exist_ok=True)
        (store.root / folder / "file").write_bytes(bytes(100_000))
    (store.root / "store.lock").write_bytes(b"1")
    assert store.space.usage() == allocated_in(store.root)


def test_records_count_among_what_was_written_today_also_after_a_restart(store: Store) -> None:
    store.space.wrote(1000)
    assert store.space.written_today() == 1000
    store.blocks.put(sized(1))
    blocks = store.space.written_today() - 1000
    assert blocks >= SIZE
    for nbytes in (3 << 20, 500):  # at once, and when it is closed
        store.space.wrote(nbytes)
    assert store.space.written_today() == blocks + 1500 + (3 << 20)
    store.blocks.close()
    store.blocks = IndexedBlocks(store.root, store.telemetry, store.clock)
    again = DiskSpace(store.root, store.blocks, store.clock)
    assert again.written_today() == blocks + 1500 + (3 << 20)
    store.blocks.close()


def test_the_quarantine_is_emptied_from_its_oldest_end(store: Store) -> None:
    folder = store.root / "quarantine"
    for age, name in enumerate(("new", "old", "oldest")):
        (folder / name).write_bytes(bytes(8192))
        os.utime(folder / name, (1000 - age, 1000 - age))
    assert store_totals.prune(store.blocks, store.space, 2000.0, unused_since=997.0).nbytes == 0
    assert len(list(folder.iterdir())) == 3
    (folder / "older").write_bytes(bytes(8192))
    os.utime(folder / "older", (990, 990))
    assert store_totals.prune(store.blocks, store.space, 2000.0, unused_since=997.0).nbytes == 8192
    (folder / "folder").mkdir()
    (folder / "folder" / "inside").write_bytes(bytes(8192))
    assert store.space.clear_quarantine(0) == 0
    assert store.space.clear_quarantine(10_000) == 16_384
    assert sorted(path.name for path in folder.iterdir()) == ["folder", "new"]
    store.space.clear_quarantine(1 << 40)
    assert list(folder.iterdir()) == []


def test_the_cap_is_never_exceeded_while_agents_talk(store: Store) -> None:
    writes = store.writes()
    writes.tend(Served(NAMESPACE, 0, frozenset))
    highest = 0
    for agent in range(12):
        parent: BlockHeader | None = None
        for number in range(8):
            part = sized(agent * 100 + number, parent)
            assert writes.submit(part)
            parent = part.header
            store.clock.now += 1
            highest = max(highest, allocated_in(store.root))
    assert writes.close(PATIENCE_S)
    assert max(highest, allocated_in(store.root)) <= CAP
    assert allocated_in(store.root) >= CAP // 2
    assert "block_not_written" not in store.telemetry.names("warning")
    assert_no_hole(store)


def assert_no_hole(store: Store) -> None:
    headers = list(store.blocks.headers(NAMESPACE))
    keys = {header.key for header in headers}
    assert headers
    holes = [header for header in headers if header.start and header.parent not in keys]
    assert holes == [], [(h.key[:6], h.parent[:6], h.start) for h in holes]
    assert all(store.blocks.get(NAMESPACE, header.id) is not None for header in headers)


def test_a_store_that_starts_above_its_cap_shrinks_while_it_serves(store: Store) -> None:
    parent: BlockHeader | None = None
    for number in range(80):
        part = sized(number, parent if number % 10 else None)
        store.blocks.put(part)
        parent = part.header
    (store.root / "quarantine" / "old").write_bytes(bytes(1 << 20))
    before = allocated_in(store.root)
    assert before > 2 * CAP
    writes = store.writes()
    writes.tend(Served(NAMESPACE, 0, frozenset))
    lost = []
    while not any(event == "store_shrunk" for event in store.telemetry.names("info")):
        lost += list(writes.fates())
    assert allocated_in(store.root) <= 0.8 * CAP
    assert writes.submit(sized(1000))
    assert writes.close(PATIENCE_S)
    assert not list((store.root / "quarantine").iterdir())
    assert_no_hole(store)


def test_orphans_are_swept_while_nothing_is_written(store: Store) -> None:
    store.blocks.put(sized(1))
    orphan = sized(2)
    store.blocks.put(orphan, make_part((2,), kind=PartKind.STATE))
    store.blocks.index.remove(NAMESPACE, [orphan.header.id])
    writes = store.writes()
    writes.tend(Served(NAMESPACE, 0, frozenset))
    while "orphans_swept" not in store.telemetry.names("info"):
        pass
    assert writes.close(PATIENCE_S)
    assert len(list((store.root / "blk").rglob("*.st"))) == 2


def test_what_was_used_last_stays_longest(store: Store) -> None:
    writes = store.writes()
    writes.tend(Served(NAMESPACE, 0, frozenset))
    parts = [sized(number) for number in range(40)]
    for number, part in enumerate(parts):
        store.clock.now += 10
        writes.submit(part)
        writes.used(NAMESPACE, (parts[0].header.key,))
        if number % 5 == 0:
            while writes.pending(part.header.id) is not None:
                pass
    assert writes.close(PATIENCE_S)
    assert store.blocks.exists(NAMESPACE, parts[0].header.id)
    assert not store.blocks.exists(NAMESPACE, parts[1].header.id)


def test_a_disk_that_cannot_be_measured_is_reported_as_such(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "statvfs", refuse)
    with pytest.raises(CachePersistenceError, match="measured"):
        store.space.disk()
