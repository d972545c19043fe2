import queue
import time
from collections.abc import Callable, Iterator

import pytest
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_part
from tests.fakes.faulty_blocks import FaultyBlocks
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.memory_block_store import MemoryBlockStore
from tests.fakes.observed_stores import PATIENCE_S, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.application.block_reader import BlockReader, ReadPace
from semantic.application.tiered_store import TieredStore
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import PartId, PartKind, StoredPart

GOOD, BAD = make_part((1, 2)), make_part((1, 2), kind=PartKind.SLIDING)
FOREIGN = make_part((1, 2), kind=PartKind.SLIDING, namespace=OTHER_NAMESPACE)


class Bench:
    def __init__(self) -> None:
        self.blocks = ObservedBlocks()
        self.telemetry, self.clock = RecordedTelemetry(), FixedClock()
        self.writes = WriteBehind(self.blocks, MemoryAgentStore(), 1 << 20, self.telemetry)
        self.reader = BlockReader(
            TieredStore(self.blocks, self.writes), 2, self.clock, self.telemetry
        )
        self.arrivals: queue.SimpleQueue[tuple[PartId, StoredPart | None]] = queue.SimpleQueue()

    def read(self, *parts: PartId) -> dict[PartId, StoredPart | None]:
        self.reader.read(
            NAMESPACE,
            dict.fromkeys(parts, 1),
            lambda part, found: self.arrivals.put((part, found)),
        )
        arrived = [self.arrivals.get(timeout=PATIENCE_S) for _ in parts]
        assert len(dict(arrived)) == len(parts)
        return dict(arrived)

    def wait_until(self, met: Callable[[], bool]) -> None:
        """Return once it is so; nobody tells when a thread is through."""
        limit = time.monotonic() + PATIENCE_S
        while not met():
            assert time.monotonic() < limit

    def close(self) -> None:
        self.blocks.reading.open()
        self.blocks.writing.open()
        self.reader.close()
        assert self.writes.close(PATIENCE_S)
        assert self.arrivals.empty()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def absent(_: ObservedBlocks) -> None:
    pass


def foreign(blocks: ObservedBlocks) -> None:
    blocks.put(FOREIGN)


def damaged(blocks: ObservedBlocks) -> None:
    blocks.put(BAD)
    blocks.damage(NAMESPACE, BAD.header.id)


def unreadable(blocks: ObservedBlocks) -> None:
    blocks.put(BAD)
    blocks.journal.refused.add(BAD.header.id)


def exploding(blocks: ObservedBlocks) -> None:
    blocks.put(BAD)
    blocks.journal.exploding.add(BAD.header.id)


def test_parts_come_one_by_one(bench: Bench) -> None:
    others = [make_part((number,)) for number in range(10)]
    for part in others:
        bench.blocks.put(part)
    wanted = [part.header.id for part in others]
    assert bench.read(*wanted) == dict(zip(wanted, others, strict=True))
    assert bench.telemetry.events == []


@pytest.mark.parametrize(
    ("spoil", "level"),
    [
        (absent, "warning"),
        (foreign, "warning"),
        (damaged, "warning"),
        (unreadable, "warning"),
        (exploding, "error"),
    ],
)
def test_a_part_that_cannot_serve_comes_as_none_with_a_report(
    bench: Bench, spoil: Callable[[ObservedBlocks], None], level: str
) -> None:
    bench.blocks.put(GOOD)
    spoil(bench.blocks)
    assert bench.read(GOOD.header.id, BAD.header.id) == {
        GOOD.header.id: GOOD,
        BAD.header.id: None,
    }
    ((found, event, fields),) = bench.telemetry.events
    assert (found, event) == (level, "block_unusable")
    assert (fields["key"], fields["part"]) == (BAD.header.key, "sliding")


def test_a_part_on_its_way_to_disk_is_there_already(bench: Bench) -> None:
    bench.blocks.writing.shut()
    bench.writes.submit(GOOD)
    assert bench.read(GOOD.header.id) == {GOOD.header.id: GOOD}


def test_after_close_reads_under_way_end_and_no_more_begin(bench: Bench) -> None:
    bench.blocks.reading.shut()
    arrived: list[PartId] = []
    for one in (GOOD, BAD, FOREIGN):
        bench.reader.read(NAMESPACE, {one.header.id: 1}, lambda part, _: arrived.append(part))
    bench.blocks.reading.wait_reached()
    bench.blocks.reading.wait_reached()
    bench.reader.close()
    bench.blocks.reading.open()
    with pytest.raises(RuntimeError):
        bench.reader.read(NAMESPACE, {GOOD.header.id: 1}, lambda part, _: arrived.append(part))
    bench.wait_until(lambda: len(arrived) == 2)
    assert set(arrived) == {GOOD.header.id, BAD.header.id}
    assert len(arrived) == 2


class StallingBench:
    """Two reading threads, and a disk that hangs where it is told to."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.memory = MemoryBlockStore()
        self.disk = FaultyBlocks(self.memory)
        self.telemetry = RecordedTelemetry()
        self.reader = BlockReader(self.disk, 2, self.clock, self.telemetry)
        self.arrivals: queue.SimpleQueue[PartId] = queue.SimpleQueue()
        self.parts = [make_part((number,)) for number in range(40)]
        self.ids = [part.header.id for part in self.parts]
        self.memory.put(*self.parts)

    def read(self, *parts: PartId) -> None:
        sizes = dict.fromkeys(parts, 100)
        self.reader.read(NAMESPACE, sizes, lambda part, _: self.arrivals.put(part))

    def arrive(self, count: int) -> set[PartId]:
        return {self.arrivals.get(timeout=PATIENCE_S) for _ in range(count)}

    def give_up(self, *parts: PartId) -> None:
        self.reader.give_up(parts, before=self.clock.now - 1)


@pytest.fixture
def stalling() -> Iterator[StallingBench]:
    made = StallingBench()
    yield made
    made.disk.release()
    made.reader.close()


def test_a_thread_that_hangs_leaves_the_others_to_read(stalling: StallingBench) -> None:
    stuck, *others = stalling.ids
    stalling.disk.stall(stuck)
    stalling.read(stuck, *others)
    assert stalling.arrive(len(others)) == set(others)
    assert not stalling.reader.hangs
    stalling.disk.release()
    assert stalling.arrive(1) == {stuck}


def test_threads_that_were_given_up_are_replaced(stalling: StallingBench) -> None:
    first, second, *others = stalling.ids
    stalling.disk.stall(first, second)
    stalling.read(first, second, *others)
    stalling.disk.wait_stopped(2)
    assert stalling.arrivals.empty()
    stalling.give_up(first, second)
    assert stalling.arrive(len(others)) == set(others)


def test_reads_that_were_under_way_before_are_given_up_whoever_asked(
    stalling: StallingBench,
) -> None:
    first, second, *others = stalling.ids
    stalling.disk.stall(first, second)
    stalling.read(first, second)
    stalling.disk.wait_stopped(2)
    stalling.read(*others)
    stalling.clock.now += 5
    stalling.give_up(others[0])
    assert stalling.arrive(len(others)) == set(others)


def test_no_more_threads_hang_than_allowed_and_all_come_back(stalling: StallingBench) -> None:
    stalling.disk.stall()
    for first in range(0, 8, 2):
        some = stalling.ids[first : first + 2]
        stalling.read(*some)
        if first < 4:
            assert not stalling.reader.hangs
            stalling.disk.wait_stopped(2)
        assert set(stalling.reader.withdraw(some)) == (set(some) if first >= 4 else set())
        stalling.give_up(*some)
    assert stalling.reader.hangs
    assert stalling.reader._num_threads == 4
    stalling.disk.release()
    assert stalling.arrive(4) == set(stalling.ids[:4])
    assert not stalling.reader.hangs
    stalling.read(*stalling.ids)
    assert stalling.arrive(40) == set(stalling.ids)
    assert stalling.reader._num_threads <= 2


def test_the_pace_is_that_of_all_threads_while_there_was_something_to_read(
    stalling: StallingBench,
) -> None:
    assert stalling.reader.pace() is None
    first, second, third, fourth = stalling.ids[:4]
    stalling.disk.stall(first, second)
    stalling.read(first, second)
    stalling.disk.wait_stopped(2)
    stalling.clock.now += 2
    stalling.disk.release()
    stalling.arrive(2)
    nbytes = stalling.parts[0].nbytes
    assert stalling.reader.pace() == ReadPace(nbytes, 0)
    stalling.clock.now += 30  # nothing is read meanwhile
    stalling.disk.stall(third)
    stalling.read(third, fourth)
    stalling.disk.wait_stopped(1)
    assert stalling.arrive(1) == {fourth}
    pace = stalling.reader.pace()
    assert pace is not None
    assert pace.bytes_ahead == 100
    stalling.clock.now += 20
    slower = stalling.reader.pace()
    assert slower is not None
    assert slower.bytes_a_second < pace.bytes_a_second / 5


def test_a_thread_that_hangs_for_ever_does_not_slow_the_pace_of_the_others(
    stalling: StallingBench,
) -> None:
    stuck, *others = stalling.ids
    stalling.disk.stall(stuck)
    stalling.read(stuck)
    stalling.disk.wait_stopped(1)
    stalling.clock.now += 5
    stalling.give_up(stuck)
    stalling.clock.now += 1000
    slow = others[0]
    stalling.disk.stall(stuck, slow)
    stalling.read(slow)
    stalling.disk.wait_stopped(1)
    stalling.clock.now += 2
    stalling.disk.release()
    stalling.arrive(2)
    pace = stalling.reader.pace()
    assert pace is not None
    assert pace.bytes_a_second == pytest.approx(stalling.parts[0].nbytes / 2)
