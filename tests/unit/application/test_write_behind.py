import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.fakes.blocks import NAMESPACE, make_part
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.memory_block_store import MemoryBlockStore
from tests.fakes.observed_stores import PATIENCE_S, Journal, ObservedAgents, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_space import ScriptedSpace

from semantic.adapters.outbound.storage.agent_format import StoredAgent, encode
from semantic.application import block_writer
from semantic.application.record_size import record_size
from semantic.application.space_keeper import SpaceKeeper, SpaceLimits
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.block import PartId, PartKind, StoredPart
from semantic.domain.ids import AgentKey

Entry = tuple[str, PartId | AgentKey]

AGENT = AgentId.parse("coder", field="agent")
RECORD = AgentRecord("coder", NAMESPACE, branches=(), updated_at=1.0)
FIRST, SECOND, THIRD = (make_part((number,), seed=number) for number in (1, 2, 3))
SIZE = FIRST.nbytes


class Bench:
    """A writer over stores that keep one journal."""

    def __init__(self, limit_bytes: int = 10 * SIZE) -> None:
        self.journal = Journal()
        self.blocks, self.agents = ObservedBlocks(self.journal), ObservedAgents(self.journal)
        self.telemetry = RecordedTelemetry()
        self.writes = WriteBehind(self.blocks, self.agents, limit_bytes, self.telemetry)

    def hold_up(self) -> None:
        """Shut the store, and have the writer stand before it with `THIRD` in its hands."""
        self.blocks.writing.shut()
        assert self.writes.submit(THIRD)
        self.blocks.writing.wait_reached()

    def finish(self) -> list[Entry]:
        """Have everything written; what was done, but for the block that held up the writer."""
        self.blocks.writing.open()
        assert self.writes.close(PATIENCE_S)
        return [entry for entry in self.journal.entries if entry != ("put", THIRD.header.id)]

    def save(self) -> "queue.SimpleQueue[bool]":
        outcome: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.writes.save(AGENT, RECORD, outcome.put)
        return outcome

    def save_and_wait(self) -> bool:
        """Whether a record was saved; everything before it has been dealt with then."""
        return self.save().get(timeout=PATIENCE_S)

    def reported(self) -> list[tuple[str, str]]:
        return [(level, event) for level, event, _ in self.telemetry.events]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.blocks.writing.open()
    made.agents.writing.open()
    assert made.writes.close(PATIENCE_S)


def put(*parts: StoredPart) -> list[Entry]:
    return [("put", part.header.id) for part in parts]


class TestOrder:
    def test_a_record_is_saved_after_the_blocks_before_it(self, bench: Bench) -> None:
        bench.hold_up()
        bench.writes.submit(FIRST)
        bench.writes.submit(SECOND)
        saved = bench.save()
        assert bench.journal.entries == []
        assert bench.finish() == [*put(FIRST, SECOND), ("save", AGENT.key)]
        assert saved.get_nowait()

    def test_what_waits_together_is_written_blocks_first_then_each_agents_newest_record(
        self, bench: Bench
    ) -> None:
        other = AgentId.parse("writer", field="agent")
        outcomes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        bench.hold_up()
        for number, (part, agent) in enumerate(zip((FIRST, SECOND), (AGENT, other), strict=True)):
            assert bench.writes.submit(part)
            bench.writes.save(agent, replace(RECORD, updated_at=2.0 + number), outcomes.put)
        bench.writes.save(AGENT, replace(RECORD, updated_at=9.0), outcomes.put)
        assert bench.finish() == [
            ("put", FIRST.header.id),
            ("put", SECOND.header.id),
            ("save", AGENT.key),
            ("save", other.key),
        ]
        assert [outcomes.get_nowait() for _ in range(3)] == [True, True, True]
        found = bench.agents.load(AGENT)
        assert found is not None
        assert found.updated_at == 9.0

    def test_a_record_that_cannot_be_saved_keeps_no_other_from_it(self, bench: Bench) -> None:
        other = AgentId.parse("writer", field="agent")
        bench.journal.unsavable.add(AGENT.key)
        outcomes: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
        bench.hold_up()
        bench.writes.save(AGENT, RECORD, lambda saved: outcomes.put(("coder", saved)))
        bench.writes.save(other, RECORD, lambda saved: outcomes.put(("writer", saved)))
        bench.finish()
        assert [outcomes.get_nowait() for _ in range(2)] == [("coder", False), ("writer", True)]

    def test_what_is_replaced_and_then_written_anew_stays(self, bench: Bench) -> None:
        bench.hold_up()
        assert bench.writes.submit(FIRST)
        assert bench.writes.submit(SECOND, (FIRST.header.id,))
        assert bench.writes.submit(FIRST, (SECOND.header.id,))
        bench.finish()
        assert bench.blocks.get(NAMESPACE, FIRST.header.id) is not None
        assert bench.blocks.get(NAMESPACE, SECOND.header.id) is None

    def test_what_is_replaced_is_deleted_after_the_block_is_written(self, bench: Bench) -> None:
        bench.writes.submit(FIRST)
        bench.writes.submit(SECOND, replaces=(FIRST.header.id,))
        assert bench.finish() == [*put(FIRST, SECOND), ("delete", FIRST.header.id)]
        assert not bench.blocks.exists(NAMESPACE, FIRST.header.id)


class TestRoom:
    def test_beyond_the_limit_blocks_are_refused(self) -> None:
        bench = Bench(limit_bytes=2 * SIZE)
        bench.hold_up()
        assert bench.writes.submit(FIRST)
        assert not bench.writes.submit(SECOND)
        assert bench.writes.pending(SECOND.header.id) is None
        assert bench.finish() == put(FIRST)

    def test_what_is_written_makes_room(self) -> None:
        bench = Bench(limit_bytes=SIZE)
        for block in (FIRST, SECOND, THIRD):
            assert bench.writes.submit(block)
            assert bench.save_and_wait()
        bench.finish()

    def test_what_cannot_be_written_makes_room_too(self) -> None:
        bench = Bench(limit_bytes=SIZE)
        bench.journal.refused = {FIRST.header.id}
        bench.journal.exploding = {SECOND.header.id}
        for block in (FIRST, SECOND, THIRD):
            assert bench.writes.submit(block)
            assert bench.save_and_wait()
        bench.finish()

    def test_a_block_submitted_twice_counts_twice_and_is_given_back_twice(self) -> None:
        bench = Bench(limit_bytes=3 * SIZE)
        bench.hold_up()
        assert bench.writes.submit(FIRST)
        assert bench.writes.submit(make_part((1,), seed=1))
        assert not bench.writes.submit(SECOND)
        bench.blocks.writing.open()
        assert bench.save_and_wait()
        bench.hold_up()
        assert bench.writes.submit(FIRST)
        assert bench.writes.submit(SECOND)
        bench.finish()


class TestDeletion:
    BLOCK = tuple(make_part((1,), kind=kind) for kind in (PartKind.FULL, PartKind.SLIDING))
    CHILD = make_part((4,), parent=BLOCK[0].header, kind=PartKind.TAIL)
    PARTS = tuple(part.header.id for part in (*BLOCK, CHILD))

    def delete_and_wait(self, bench: Bench) -> bool:
        outcome: queue.SimpleQueue[bool] = queue.SimpleQueue()
        bench.writes.delete(AGENT, NAMESPACE, self.PARTS, outcome.put)
        return outcome.get(timeout=PATIENCE_S)

    def test_what_was_handed_in_before_is_written_first(self, bench: Bench) -> None:
        for part in (*self.BLOCK, self.CHILD):
            bench.writes.submit(part)
        assert self.delete_and_wait(bench)
        assert list(bench.blocks.headers(NAMESPACE)) == []

    @pytest.mark.parametrize("discard", [True, False])
    def test_nothing_is_left_of_a_block_that_does_not_exist(
        self, bench: Bench, *, discard: bool
    ) -> None:
        """What adds to a block goes first: a deletion that is cut short can be repeated."""
        for part in (*self.BLOCK, self.CHILD):
            bench.writes.submit(part)
        if discard:
            bench.writes.discard(NAMESPACE, self.PARTS)
        else:
            self.delete_and_wait(bench)
        entries = bench.finish()
        gone = [part for action, part in entries if action == "delete"]
        assert gone[:3] == list(reversed(self.PARTS))

    def test_a_block_stays_if_what_adds_to_it_does(self, bench: Bench) -> None:
        for part in (*self.BLOCK, self.CHILD):
            bench.writes.submit(part)
        bench.journal.undeletable = {self.PARTS[1]}
        assert not self.delete_and_wait(bench)
        left = [header.id for header in bench.blocks.headers(NAMESPACE)]
        assert left == list(self.PARTS[:2])
        bench.journal.undeletable = set()
        assert self.delete_and_wait(bench)

    def test_the_record_stays_if_a_part_does(self, bench: Bench) -> None:
        assert bench.save_and_wait()
        bench.journal.undeletable = {self.PARTS[1]}
        assert not self.delete_and_wait(bench)
        assert bench.agents.load(AGENT) is not None
        assert bench.reported() == [("warning", "block_not_deleted")]

    def test_afterwards_nothing_is_discarded_any_more(self, bench: Bench) -> None:
        bench.writes.submit(FIRST)
        assert bench.finish() == put(FIRST)
        bench.writes.discard(NAMESPACE, (FIRST.header.id,))
        assert bench.blocks.exists(NAMESPACE, FIRST.header.id)
        assert bench.reported() == []


class TestPending:
    def test_a_block_is_served_until_it_is_written(self, bench: Bench) -> None:
        bench.hold_up()
        bench.writes.submit(FIRST)
        assert bench.writes.pending(FIRST.header.id) is FIRST
        assert bench.writes.pending(THIRD.header.id) is THIRD
        bench.finish()
        assert bench.writes.pending(FIRST.header.id) is None
        assert bench.blocks.exists(NAMESPACE, FIRST.header.id)

    def test_a_block_submitted_twice_is_served_until_both_are_written(self, bench: Bench) -> None:
        bench.hold_up()
        again = make_part((1,), seed=1)
        bench.writes.submit(FIRST)
        bench.writes.submit(again)
        bench.blocks.writing.open()
        bench.blocks.writing.wait_reached()
        bench.blocks.writing.wait_reached()
        bench.finish()
        assert bench.writes.pending(FIRST.header.id) is None

    def test_a_block_written_while_its_like_waits_is_still_served(self, bench: Bench) -> None:
        again = make_part((3,), seed=3)
        bench.hold_up()
        bench.writes.submit(again)
        assert bench.writes.pending(THIRD.header.id) is again


class TestFailure:
    @pytest.mark.parametrize(
        ("fail", "level"),
        [
            (lambda journal, part: journal.refused.add(part), "warning"),
            (lambda journal, part: journal.exploding.add(part), "error"),
        ],
    )
    def test_a_block_that_cannot_be_written_replaces_nothing(
        self, bench: Bench, fail: Callable[[Journal, PartId], None], level: str
    ) -> None:
        fail(bench.journal, SECOND.header.id)
        bench.writes.submit(FIRST)
        bench.writes.submit(SECOND, replaces=(FIRST.header.id,))
        assert bench.save_and_wait()
        assert bench.finish() == [*put(FIRST), ("save", AGENT.key)]
        assert bench.reported() == [(level, "block_not_written")]
        assert bench.writes.pending(SECOND.header.id) is None

    def test_what_cannot_be_deleted_keeps_nothing_else_from_it(self, bench: Bench) -> None:
        bench.journal.undeletable = {FIRST.header.id}
        for block in (FIRST, SECOND):
            bench.writes.submit(block)
        bench.writes.submit(THIRD, replaces=(FIRST.header.id, SECOND.header.id))
        bench.finish()
        assert not bench.blocks.exists(NAMESPACE, SECOND.header.id)
        assert bench.blocks.exists(NAMESPACE, THIRD.header.id)
        assert bench.reported() == [("warning", "block_not_deleted")]

    def test_no_block_is_written_after_one_that_could_not_be(self, bench: Bench) -> None:
        child = make_part((4,), parent=FIRST.header)
        grandchild = make_part((5,), parent=child.header)
        bench.blocks.failing = True
        bench.writes.submit(FIRST)
        assert bench.save_and_wait()
        bench.blocks.failing = False
        for block in (child, grandchild, SECOND):
            bench.writes.submit(block)
        bench.finish()
        assert not bench.blocks.exists(NAMESPACE, child.header.id)
        assert not bench.blocks.exists(NAMESPACE, grandchild.header.id)
        assert bench.blocks.exists(NAMESPACE, SECOND.header.id)

    def test_after_a_later_success_its_children_are_written(self, bench: Bench) -> None:
        child = make_part((4,), parent=FIRST.header)
        bench.blocks.failing = True
        bench.writes.submit(FIRST)
        assert bench.save_and_wait()
        bench.blocks.failing = False
        bench.writes.submit(FIRST)
        bench.writes.submit(child)
        bench.finish()
        assert bench.blocks.exists(NAMESPACE, child.header.id)

    def test_of_more_blocks_than_are_remembered_the_store_is_asked(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(block_writer, "_ABSENT", 4)
        lost = [make_part((number,), seed=number) for number in range(100, 120)]
        bench.journal.refused = {part.header.id for part in lost}
        for part in (*lost, FIRST):
            bench.writes.submit(part)
            assert bench.save_and_wait()
        assert len(bench.writes._writer._absent) <= 4
        followers = [make_part((4,), parent=part.header) for part in (lost[0], lost[-1], FIRST)]
        added = make_part((1,), seed=1, kind=PartKind.STATE)
        stray = make_part((100,), seed=100, kind=PartKind.STATE)
        for part in (*followers, added, stray):
            bench.writes.submit(part)
            assert bench.save_and_wait()
        second = make_part((5,), parent=SECOND.header)
        bench.writes.submit(SECOND)
        bench.writes.submit(second)
        bench.finish()
        there = {header.id for header in bench.blocks.headers(NAMESPACE)}
        kept = (FIRST, followers[2], added, SECOND, second)
        assert there == {part.header.id for part in kept}

    @pytest.mark.parametrize("kind", [PartKind.SLIDING, PartKind.STATE])
    def test_nothing_is_added_to_a_block_that_could_not_be_written(
        self, bench: Bench, kind: PartKind
    ) -> None:
        added = make_part((1,), kind=kind)
        bench.journal.refused = {FIRST.header.id}
        bench.writes.submit(FIRST)
        bench.writes.submit(added)
        assert bench.save_and_wait()
        assert not bench.blocks.exists(NAMESPACE, added.header.id)
        bench.journal.refused = set()
        bench.writes.submit(FIRST)
        bench.writes.submit(added)
        bench.finish()
        assert bench.blocks.exists(NAMESPACE, added.header.id)
        assert bench.reported() == [("warning", "block_not_written")] * 2

    @pytest.mark.parametrize("kind", [PartKind.SLIDING, PartKind.STATE])
    def test_a_block_that_lacks_what_adds_to_it_can_be_followed(
        self, bench: Bench, kind: PartKind
    ) -> None:
        added, child = make_part((1,), kind=kind), make_part((4,), parent=FIRST.header)
        bench.journal.exploding = {added.header.id}
        for part in (FIRST, added, child):
            bench.writes.submit(part)
        assert bench.finish() == put(FIRST, child)
        ((_, _, fields),) = bench.telemetry.events
        assert (fields["key"], fields["part"]) == (FIRST.header.key, kind.value)

    def test_who_waits_for_a_record_hears_that_it_failed(self, bench: Bench) -> None:
        bench.agents.failing = True
        assert bench.save_and_wait() is False
        assert bench.reported() == [("warning", "agent_not_saved")]
        bench.agents.failing = False
        assert bench.save_and_wait() is True

    def test_a_listener_that_raises_does_not_end_the_writer(self, bench: Bench) -> None:
        def broken(saved: bool) -> None:  # noqa: FBT001 - the callback's signature
            raise RuntimeError(f"the loop is closed, {saved}")

        bench.writes.save(AGENT, RECORD, broken)
        assert bench.save_and_wait()
        assert bench.reported() == [("error", "listener_failed")]


RECORD_OF = Segment("word " * 20_000, tuple(range(20_000)))


class TestLimits:
    """Records are held to what the store may take and write, like blocks."""

    def bench(self, **given: int | bool) -> "Limited":
        return Limited(SpaceLimits(**(NO_LIMITS | given)))  # type: ignore[arg-type] # by name

    def test_records_beyond_the_cap_are_not_saved_and_that_is_told_once(self) -> None:
        bench = self.bench(max_bytes=1 << 20)
        saved = bench.save(*(f"agent{number}" for number in range(20)))
        assert 0 < saved.count(True) < 20
        assert bench.space.usage() <= 1 << 20
        assert bench.telemetry.names("warning") == ["store_full"]

    def test_a_record_drives_out_blocks_but_none_in_vain(self) -> None:
        bench = self.bench(max_bytes=1 << 20)
        size = 64 << 10
        for number in range(12):
            part = make_part((number,))
            tensor = replace(part.tensors[0], dtype="U8", shape=(size,), data=bytes(size))
            assert bench.writes.submit(replace(part, tensors=(tensor,)))
        assert bench.save("one", "two") == [True, True]
        left = len(list(bench.blocks.headers(NAMESPACE)))
        assert 0 < left < 12
        saved = bench.save(*(f"agent{number}" for number in range(20)))
        assert bench.space.usage() <= 1 << 20
        assert not all(saved)

    @pytest.mark.parametrize(
        "given", [{"writes": False}, {"min_free_bytes": 1 << 60}, {"daily_write_bytes": 100}]
    )
    def test_while_writing_is_paused_no_record_is_saved(self, given: dict[str, int]) -> None:
        bench = self.bench(**given)
        bench.space.written = 90
        bench.space.free = bench.space.total // 100 if "min_free_bytes" in given else 1 << 40
        assert bench.save("one", "two") == [False, False]
        assert list(bench.agents.list()) == []
        assert bench.telemetry.names("warning") == ["writing_paused"]

    def test_records_count_among_what_is_written_today(self) -> None:
        bench = self.bench(daily_write_bytes=1 << 20)
        saved = bench.save(*(f"agent{number}" for number in range(20)))
        assert 0 < saved.count(True) < 20
        assert saved.count(True) * len(RECORD_OF.text) < bench.space.written <= 1 << 20


NO_LIMITS: dict[str, int | float | bool] = {
    "max_bytes": 1 << 40,
    "max_share": 1.0,
    "min_free_bytes": 0,
    "daily_write_bytes": 0,
    "writes": True,
    "high_watermark": 0.9,
    "low_watermark": 0.8,
    "recheck_s": 60.0,
}


class Limited:
    """A writer with a keeper, over a space in which records count as they do on a disk."""

    def __init__(self, limits: SpaceLimits) -> None:
        self.blocks, self.agents = MemoryBlockStore(), MemoryAgentStore()
        self.space = RecordedSpace(self.blocks)
        self.space.agents = self.agents
        self.telemetry = RecordedTelemetry()
        keeper = SpaceKeeper(self.blocks, self.space, limits, FixedClock(), self.telemetry)
        self.writes = WriteBehind(self.blocks, self.agents, 1 << 30, self.telemetry, keeper)

    def save(self, *names: str) -> list[bool]:
        """Whether each agent's record was saved, handed in one after the other."""
        outcomes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        found = []
        for name in names:
            agent = AgentId.parse(name, field="agent")
            record = replace(RECORD, name=name, branches=(Branch((RECORD_OF,)),))
            self.writes.save(agent, record, outcomes.put)
            found.append(outcomes.get(timeout=PATIENCE_S))
        return found


class RecordedSpace(ScriptedSpace):
    """Its records take what they really would."""

    agents: MemoryAgentStore

    def usage(self) -> int:
        records = self.agents.list() if hasattr(self, "agents") else ()
        sizes = (len(encode(StoredAgent(AgentKey("0" * 64), record))) for record in records)
        return super().usage() + sum(sizes)


@pytest.mark.parametrize(
    "text", ["", "plain words " * 500, '"quoted"\n' * 100, "\x01\u20ac\U0001f600\ud800" * 50]
)
@pytest.mark.parametrize("ids", [(), (0,), tuple(range(0, 200_000, 37))])
def test_a_records_size_is_told_well_enough_before_it_is_written(
    text: str, ids: tuple[int, ...]
) -> None:
    record = replace(RECORD, branches=(Branch((Segment(text, ids),) * 3),) * 2)
    really = len(encode(StoredAgent(AGENT.key, record)))
    assert really <= record_size(record) <= 1.1 * really + 2048


class TestClose:
    def test_everything_queued_is_written_first(self, bench: Bench) -> None:
        bench.hold_up()
        bench.writes.submit(FIRST)
        saved = bench.save()
        assert bench.finish() == [*put(FIRST), ("save", AGENT.key)]
        assert saved.get_nowait()

    def test_it_tells_if_that_takes_too_long_and_may_be_asked_again(self, bench: Bench) -> None:
        bench.hold_up()
        assert not bench.writes.close(0.0)
        bench.finish()
        assert bench.writes.close(PATIENCE_S)

    def test_blocks_are_refused_afterwards(self, bench: Bench) -> None:
        assert bench.writes.close(PATIENCE_S)
        assert not bench.writes.submit(FIRST)
        assert bench.writes.pending(FIRST.header.id) is None

    def test_who_saves_a_record_afterwards_hears_that_it_failed(self, bench: Bench) -> None:
        assert bench.writes.close(PATIENCE_S)
        assert bench.save().get_nowait() is False
        assert bench.reported() == [("warning", "agent_not_saved")]

    def test_nobody_who_saves_while_it_closes_waits_for_ever(self) -> None:
        bench = Bench()
        start = threading.Barrier(5)
        outcomes: list[queue.SimpleQueue[bool]] = []

        def save() -> None:
            start.wait(PATIENCE_S)
            outcomes.extend(bench.save() for _ in range(50))

        threads = [threading.Thread(target=save) for _ in range(4)]
        for thread in threads:
            thread.start()
        start.wait(PATIENCE_S)
        assert bench.writes.close(PATIENCE_S)
        for thread in threads:
            thread.join()
        heard = [outcome.get(timeout=PATIENCE_S) for outcome in outcomes]
        assert heard.count(True) == bench.journal.entries.count(("save", AGENT.key))
