import queue
from collections.abc import Callable, Iterator

import pytest
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_block
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.observed_stores import PATIENCE_S, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.application.block_reader import BlockReader
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import StoredBlock
from semantic.domain.ids import BlockKey

GOOD, BAD = make_block((1, 2)), make_block((3, 4))
FOREIGN = make_block((3, 4), namespace=OTHER_NAMESPACE)


class Bench:
    def __init__(self) -> None:
        self.blocks = ObservedBlocks()
        self.telemetry = RecordedTelemetry()
        self.writes = WriteBehind(self.blocks, MemoryAgentStore(), 1 << 20, self.telemetry)
        self.reader = BlockReader(self.blocks, self.writes, 2, self.telemetry)
        self.arrivals: queue.SimpleQueue[tuple[BlockKey, StoredBlock | None]] = queue.SimpleQueue()

    def read(self, *keys: BlockKey) -> dict[BlockKey, StoredBlock | None]:
        self.reader.read(NAMESPACE, keys, lambda key, block: self.arrivals.put((key, block)))
        arrived = [self.arrivals.get(timeout=PATIENCE_S) for _ in keys]
        assert len(dict(arrived)) == len(keys)
        return dict(arrived)

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
    blocks.damage(NAMESPACE, BAD.header.key)


def unreadable(blocks: ObservedBlocks) -> None:
    blocks.put(BAD)
    blocks.journal.refused.add(BAD.header.key)


def exploding(blocks: ObservedBlocks) -> None:
    blocks.put(BAD)
    blocks.journal.exploding.add(BAD.header.key)


def test_blocks_come_one_by_one(bench: Bench) -> None:
    others = [make_block((number,)) for number in range(10)]
    for block in others:
        bench.blocks.put(block)
    keys = [block.header.key for block in others]
    assert bench.read(*keys) == dict(zip(keys, others, strict=True))
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
def test_a_block_that_cannot_serve_comes_as_none_with_a_report(
    bench: Bench, spoil: Callable[[ObservedBlocks], None], level: str
) -> None:
    bench.blocks.put(GOOD)
    spoil(bench.blocks)
    assert bench.read(GOOD.header.key, BAD.header.key) == {
        GOOD.header.key: GOOD,
        BAD.header.key: None,
    }
    assert [(found, event) for found, event, _ in bench.telemetry.events] == [
        (level, "block_unusable")
    ]


def test_a_block_on_its_way_to_disk_is_there_already(bench: Bench) -> None:
    bench.blocks.writing.shut()
    bench.writes.submit(GOOD)
    assert bench.read(GOOD.header.key) == {GOOD.header.key: GOOD}


def test_after_close_reads_under_way_end_and_no_more_begin(bench: Bench) -> None:
    bench.blocks.reading.shut()
    arrived: list[BlockKey] = []
    for block in (GOOD, BAD, FOREIGN):
        bench.reader.read(NAMESPACE, [block.header.key], lambda key, _: arrived.append(key))
    bench.blocks.reading.wait_reached()
    bench.blocks.reading.wait_reached()
    bench.reader.close()
    bench.blocks.reading.open()
    with pytest.raises(RuntimeError):
        bench.reader.read(NAMESPACE, [GOOD.header.key], lambda key, _: arrived.append(key))
    bench.reader._pool.shutdown(wait=True)
    assert sorted(arrived) == sorted((GOOD.header.key, BAD.header.key))
