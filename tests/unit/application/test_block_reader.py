import queue
import time
from collections.abc import Callable, Iterator

import pytest
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_part
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.observed_stores import PATIENCE_S, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.application.block_reader import BlockReader
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
