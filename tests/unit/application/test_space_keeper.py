import pytest
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_part
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_block_store import MemoryBlockStore
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_space import ScriptedSpace

from semantic.application.space_keeper import Demand, Served, SpaceKeeper, SpaceLimits
from semantic.domain.block import BlockHeader, PartId, StoredPart
from semantic.domain.ids import BlockKey

SIZE = 1 << 20


def limits(
    cap: int = 1 << 40,
    *,
    share: float = 1.0,
    free: int = 0,
    daily: int = 0,
    writes: bool = True,
    high: float = 0.9,
) -> SpaceLimits:
    return SpaceLimits(cap, share, free, daily, writes, high, 0.8, 60.0)


def big(number: int, parent: BlockHeader | None = None) -> StoredPart:
    """A part that is large beside what a header may take."""
    part = make_part((number,), parent=parent)
    tensor = part.tensors[0]
    return StoredPart(part.header, (type(tensor)("x", "U8", (SIZE,), bytes(SIZE)),))


class Bench:
    def __init__(self, given: SpaceLimits, **space: int) -> None:
        self.blocks = MemoryBlockStore()
        self.space = ScriptedSpace(self.blocks, **space)  # type: ignore[arg-type] # numbers only
        self.telemetry = RecordedTelemetry()
        self.keeper = SpaceKeeper(
            self.blocks, self.space, given, FixedClock(now=100.0), self.telemetry
        )
        self.lost: list[PartId] = []
        self.active: frozenset[BlockKey] = frozenset()
        self.keeper.serve(Served(NAMESPACE, 0, lambda: self.active))

    def admit(self, nbytes: int, parts: int = 1) -> bool:
        return self.keeper.admit(Demand(nbytes, parts), self.lost.append)

    def put(self, part: StoredPart) -> bool:
        demand = Demand(part.nbytes, 1, frozenset([part.header.parent]))
        admitted = self.keeper.admit(demand, self.lost.append)
        if admitted:
            self.blocks.put(part)
        return admitted


class TestCap:
    def test_it_is_the_smaller_of_what_is_set_and_a_share_of_the_disk(self) -> None:
        assert Bench(limits(1000)).keeper.cap == 1000
        assert Bench(limits(share=0.25), free=4200, others=1000).keeper.cap == 1300

    def test_a_restart_on_a_disk_that_others_have_filled_throws_nothing_away(self) -> None:
        before = Bench(limits())
        for number in range(8):
            before.put(big(number))
        for given, kept in ((limits(share=0.25), 8), (limits(5 * SIZE, share=0.25), 4)):
            blocks = MemoryBlockStore()
            blocks._parts = dict(before.blocks._parts)
            space = ScriptedSpace(blocks, free=SIZE)
            telemetry = RecordedTelemetry()
            keeper = SpaceKeeper(blocks, space, given, FixedClock(now=100.0), telemetry)
            keeper.shrink(lambda _: None)
            assert len(blocks._parts) == kept
            shrunk = [fields["limit"] for _, event, fields in telemetry.events]
            assert shrunk == ([] if kept == 8 else ["store.max_bytes"])
            # More than its share it does not become.
            assert keeper.cap == (space.usage() if kept == 8 else 5 * SIZE)

    def test_what_shrinks_to_its_share_of_the_disk_says_so(self) -> None:
        bench = Bench(limits(share=0.25), free=40 * SIZE)
        for number in range(12):
            bench.put(big(number))
        told = [fields["limit"] for _, event, fields in bench.telemetry.events]
        assert set(told) == {"store.max_disk_share"}

    def test_at_the_high_watermark_the_store_shrinks_to_the_low_one(self) -> None:
        bench = Bench(limits(10 * SIZE))
        for number in range(30):
            assert bench.put(big(number))
            assert bench.space.usage() <= 9 * SIZE
        assert bench.space.usage() >= 6 * SIZE
        assert "store_shrunk" in bench.telemetry.names("info")
        assert bench.telemetry.names("warning") == []
        assert len(bench.lost) == 30 - bench.space.usage() // SIZE

    def test_a_chain_is_evicted_from_its_end(self) -> None:
        bench = Bench(limits(10 * SIZE))
        chain = [big(0)]
        for number in range(1, 8):
            chain.append(big(number, chain[-1].header))
        for part in chain:
            bench.put(part)
        for number in range(8, 12):
            bench.put(big(number))
        assert bench.lost[: len(bench.lost)]
        left = [bench.blocks.exists(NAMESPACE, part.header.id) for part in chain]
        assert left == sorted(left, reverse=True)

    def test_what_is_being_written_builds_on_stays(self) -> None:
        bench = Bench(limits(10 * SIZE))
        last = big(0)
        bench.put(last)
        for number in range(1, 30):
            last = big(number, last.header)
            # A chain that is longer than the store: its own end must not go for its next block.
            if not bench.put(last):
                break
        assert number == 9
        assert bench.lost == []
        assert bench.telemetry.names("warning") == ["store_full"]

    def test_what_was_set_aside_goes_first(self) -> None:
        bench = Bench(limits(10 * SIZE), quarantine=9 * SIZE)
        assert bench.put(big(1))
        assert bench.space.quarantine == 0
        assert bench.lost == []

    def test_models_that_do_not_run_go_next_and_active_blocks_last(self) -> None:
        bench = Bench(limits(10 * SIZE))
        first = big(0)
        bench.active = frozenset([first.header.key])
        bench.put(first)
        foreign = make_part((1,), namespace=OTHER_NAMESPACE)
        bench.put(foreign)
        for number in range(2, 14):
            bench.put(big(number))
        assert bench.lost[0] == foreign.header.id
        assert bench.blocks.exists(NAMESPACE, first.header.id)

    def test_what_finds_no_room_is_refused_and_told_once(self) -> None:
        bench = Bench(limits(10 * SIZE), others=10 * SIZE)
        assert not bench.put(big(1))
        assert not bench.put(big(2))
        assert bench.telemetry.names("warning") == ["store_full"]
        bench.space.others = 0
        assert bench.put(big(1))
        bench.space.others = 10 * SIZE
        for number in range(100):
            bench.put(big(number))
        assert bench.telemetry.names("warning") == ["store_full"] * 2

    def test_a_store_that_starts_above_its_cap_shrinks(self) -> None:
        blocks = Bench(limits())
        for number in range(20):
            blocks.put(big(number))
        bench = Bench(limits(10 * SIZE))
        bench.blocks._parts = blocks.blocks._parts
        bench.keeper._measure()
        bench.keeper.shrink(bench.lost.append)
        assert bench.space.usage() <= 8 * SIZE
        assert len(bench.lost) == 12

    def test_what_does_not_fit_at_all_drives_out_nothing(self) -> None:
        bench = Bench(limits(10 * SIZE))
        for number in range(7):
            bench.put(big(number))
        assert not bench.admit(9 * SIZE, 1)
        assert not bench.admit(5 * SIZE, 5)
        assert bench.lost == []
        assert bench.telemetry.names("warning") == ["store_full"]

    def test_what_cannot_be_deleted_is_told_and_not_fatal(self) -> None:
        bench = Bench(limits(10 * SIZE))
        for number in range(8):
            bench.put(big(number))
        bench.blocks.failing = True
        bench.admit(3 * SIZE, 1)
        assert "block_not_deleted" in bench.telemetry.names("warning")
        assert bench.lost == []  # it is there, and may be served


class TestWhatIsNoBlock:
    """Agents' records, the index: nothing that could be evicted."""

    def bench(self, others: int, blocks: int) -> Bench:
        bench = Bench(limits(20 * SIZE), others=others)
        for number in range(blocks):
            bench.blocks.put(big(number))
        bench.keeper._measure()
        return bench

    def test_where_it_fills_the_cap_no_block_goes_for_what_finds_no_room_anyway(self) -> None:
        bench = self.bench(others=17 * SIZE, blocks=2)
        assert not bench.admit(4 * SIZE)
        assert bench.lost == []
        assert bench.admit(SIZE // 2)

    def test_where_it_takes_most_no_more_blocks_go_than_must(self) -> None:
        bench = self.bench(others=16 * SIZE, blocks=2)
        assert bench.admit(SIZE // 2)
        assert len(bench.lost) == 1

    def test_where_there_is_room_anyway_nothing_goes(self) -> None:
        bench = self.bench(others=18 * SIZE, blocks=1)
        assert bench.admit(SIZE // 2)
        assert bench.lost == []

    def test_a_start_below_the_cap_keeps_blocks_that_do_not_bring_it_to_the_low_watermark(
        self,
    ) -> None:
        bench = self.bench(others=17 * SIZE, blocks=2)
        bench.keeper.shrink(bench.lost.append)
        assert bench.lost == []

    def test_what_finds_no_room_is_told_once_though_something_smaller_does(self) -> None:
        bench = self.bench(others=18 * SIZE, blocks=0)
        for _ in range(3):
            assert not bench.admit(5 * SIZE)
            bench.admit(1)
        assert bench.telemetry.names("warning") == ["store_full"]


class TestPause:
    def test_with_writes_off_nothing_is_written_and_that_is_told_once(self) -> None:
        bench = Bench(limits(writes=False))
        assert not bench.put(big(1))
        assert not bench.keeper.writing
        assert bench.keeper.patience_s is None
        assert bench.telemetry.names("warning") == ["writing_paused"]

    def test_a_disk_that_is_nearly_full_is_left_alone_until_there_is_room(self) -> None:
        bench = Bench(limits(free=100 * SIZE), free=1000 * SIZE, total=10_000 * SIZE)
        assert bench.put(big(1))
        bench.space.free = 100 * SIZE
        assert not bench.put(big(2))
        assert not bench.put(big(3))
        assert bench.keeper.patience_s == 60.0
        bench.space.free = 105 * SIZE
        bench.keeper.look()
        assert not bench.keeper.writing
        bench.space.free = 111 * SIZE
        bench.keeper.look()
        assert bench.keeper.writing
        assert bench.keeper.patience_s is None
        assert bench.telemetry.names() == ["writing_paused", "writing_resumed"]

    def test_of_a_small_disk_a_twentieth_is_kept_free(self) -> None:
        bench = Bench(limits(free=10 << 30), free=60 * SIZE, total=1000 * SIZE)
        assert bench.put(big(1))
        bench.space.free = 50 * SIZE
        assert not bench.put(big(2))

    def test_several_that_the_budget_has_no_room_for_together_pause_nothing(self) -> None:
        bench = Bench(limits(daily=10 * SIZE))
        bench.space.written = 4 * SIZE
        assert not bench.admit(8 * SIZE, 8)
        assert bench.telemetry.names() == []
        assert bench.admit(SIZE)

    def test_a_days_budget_is_kept(self) -> None:
        bench = Bench(limits(daily=10 * SIZE))
        bench.space.written = 8 * SIZE
        assert bench.put(big(1))
        bench.space.written = 9 * SIZE
        assert not bench.put(big(2))
        bench.keeper.look()
        assert not bench.keeper.writing
        bench.space.written = 0
        bench.keeper.look()
        assert bench.put(big(2))
        assert bench.telemetry.names("warning") == ["writing_paused"]


@pytest.mark.parametrize("high", [0.5, 1.0])
def test_the_cap_holds_wherever_the_watermarks_are(high: float) -> None:
    bench = Bench(limits(10 * SIZE, high=high))
    for number in range(40):
        bench.put(big(number))
        assert bench.space.usage() <= 10 * SIZE
