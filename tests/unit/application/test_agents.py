import asyncio
import threading
from collections.abc import Coroutine

import pytest
from tests.fakes.blocks import make_part
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.observed_stores import PATIENCE_S, Journal, ObservedAgents, ObservedBlocks
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_executor import NAMESPACE

from semantic.application.agents import AgentLimits, Agents, OpenAgent
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord, Branch, Recall, Segment, recall
from semantic.domain.errors import AgentBusyError
from semantic.domain.ids import DEFAULT_TENANT, TenantId

CODER = AgentId.parse("coder", field="agent")
STORED = CODER.within(NAMESPACE)


class Bench:
    def __init__(
        self,
        store: ObservedAgents | None = None,
        max_branches: int = 8,
        silence_s: float = PATIENCE_S,
    ) -> None:
        self.journal = Journal()
        self.store = store or ObservedAgents(self.journal)
        self.blocks = ObservedBlocks(self.journal)
        self.telemetry = RecordedTelemetry()
        self.clock = FixedClock(now=5.0)
        self.writes = WriteBehind(self.blocks, self.store, 1 << 20, self.telemetry)
        self.agents = Agents(
            self.store,
            self.writes,
            NAMESPACE,
            AgentLimits(max_branches, silence_s),
            self.clock,
            self.telemetry,
        )

    def run(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` in a loop of its own, then write what waits."""

        async def limited() -> None:
            await asyncio.wait_for(work, PATIENCE_S)

        asyncio.run(limited())
        self.store.reading.open()
        self.store.writing.open()
        assert self.writes.close(PATIENCE_S)

    async def turn(self, opened: OpenAgent, rendered: str) -> bool:
        """A whole turn about `rendered`, answered with an exclamation mark."""
        return await self.finish(opened, recall(opened.record.branches, rendered), rendered)

    async def finish(self, opened: OpenAgent, recalled: Recall, rendered: str) -> bool:
        asked = rendered[recalled.length :]
        new = (Segment(asked, tuple(map(ord, asked))), Segment("!", (33,)))
        return await self.agents.remember(opened, recalled, new)

    def remembered(self) -> list[str]:
        """The texts of the branches in the store."""
        record = self.store._records.get(STORED.key)
        branches = record.branches if record else ()
        return ["".join(segment.text for segment in branch.segments) for branch in branches]


def texts(opened: OpenAgent) -> list[str]:
    branches = opened.record.branches
    return ["".join(segment.text for segment in branch.segments) for branch in branches]


def test_an_unknown_agent_has_no_branches() -> None:
    bench = Bench()

    async def use() -> None:
        opened = await bench.agents.open(CODER)
        assert opened.record.branches == ()
        assert opened.record.name == "coder"
        bench.agents.close(opened)

    bench.run(use())
    assert bench.remembered() == []


def test_a_turn_is_found_again_after_a_restart() -> None:
    first, second = Bench(), Bench()
    second.agents = Agents(
        first.store, second.writes, NAMESPACE, AgentLimits(8), second.clock, second.telemetry
    )

    async def talk() -> None:
        opened = await first.agents.open(CODER)
        assert await first.turn(opened, "one")
        first.agents.close(opened)

    async def look() -> None:
        opened = await second.agents.open(CODER)
        assert texts(opened) == ["one!"]
        assert opened.record.updated_at == 5.0
        second.agents.close(opened)

    first.run(talk())
    second.run(look())


def test_another_models_memory_of_an_agent_is_another() -> None:
    bench = Bench()
    other = Agents(
        bench.store,
        bench.writes,
        type(NAMESPACE)("f" * 64),
        AgentLimits(8),
        bench.clock,
        bench.telemetry,
    )

    async def use() -> None:
        opened = await bench.agents.open(CODER)
        await bench.turn(opened, "one")
        elsewhere = await other.open(CODER)
        assert elsewhere.record.branches == ()

    bench.run(use())


def test_an_agent_in_use_is_read_once_and_leaves_memory_with_the_last_request() -> None:
    bench = Bench()

    async def use() -> None:
        both = await asyncio.gather(bench.agents.open(CODER), bench.agents.open(CODER))
        assert both[0] is both[1]
        bench.agents.close(both[0])
        assert await bench.agents.open(CODER) is both[0]
        bench.agents.close(both[0])
        bench.agents.close(both[0])
        again = await bench.agents.open(CODER)
        assert again is not both[0]
        bench.agents.close(again)

    bench.run(use())
    assert bench.journal.entries == [("load", STORED.key)] * 2


def test_two_requests_at_once_keep_both_branches() -> None:
    bench = Bench()

    async def use() -> None:
        opened = await bench.agents.open(CODER)
        await bench.turn(opened, "base ")
        first, second = await bench.agents.open(CODER), await bench.agents.open(CODER)
        recalled = recall(first.record.branches, "base ! left")
        assert await bench.finish(first, recalled, "base ! left")
        assert await bench.finish(second, recalled, "base ! right")
        for one in (opened, first, second):
            bench.agents.close(one)

    bench.run(use())
    assert bench.remembered() == ["base ! left!", "base ! right!"]


def test_the_record_is_saved_after_the_blocks_of_its_turn() -> None:
    bench = Bench()
    part = make_part()
    bench.blocks.writing.shut()
    bench.writes.submit(part)

    async def use() -> None:
        opened = await bench.agents.open(CODER)
        turn = asyncio.create_task(bench.turn(opened, "one"))
        await asyncio.to_thread(bench.blocks.writing.wait_reached)
        assert bench.remembered() == []
        bench.blocks.writing.open()
        assert await turn

    bench.run(use())
    assert bench.journal.entries[1:] == [("put", part.header.id), ("save", STORED.key)]


def test_old_branches_give_way() -> None:
    bench = Bench(max_branches=2)

    async def use() -> None:
        opened = await bench.agents.open(CODER)
        for text in ("a", "b", "c"):
            await bench.turn(opened, text)

    bench.run(use())
    assert bench.remembered() == ["b!", "c!"]


def test_that_a_record_cannot_be_saved_is_told() -> None:
    bench = Bench()
    bench.store.failing = True

    async def use() -> None:
        opened = await bench.agents.open(CODER)
        assert not await bench.turn(opened, "one")
        assert texts(opened) == ["one!"]

    bench.run(use())


def test_what_is_remembered_while_another_request_opens_the_agent_is_not_lost() -> None:
    """The slow reader must not come back with a record from before the other's turn."""
    bench = Bench()
    bench.store.reading.shut()

    async def use() -> None:
        slow = asyncio.create_task(bench.agents.open(CODER))
        await asyncio.to_thread(bench.store.reading.wait_reached)
        quick = asyncio.create_task(bench.agents.open(CODER))
        await asyncio.sleep(0)
        bench.store.reading.open()
        opened = await quick
        await bench.turn(opened, "one")
        bench.agents.close(opened)
        assert texts(await slow) == ["one!"]
        await bench.turn(await slow, "two")

    bench.run(use())
    assert bench.remembered() == ["one!", "two!"]


def test_a_record_that_is_not_written_yet_is_found_in_memory() -> None:
    bench = Bench()
    bench.store.writing.shut()

    async def use() -> None:
        opened = await bench.agents.open(CODER)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bench.turn(opened, "one"), 0.01)
        bench.agents.close(opened)
        again = await bench.agents.open(CODER)
        assert texts(again) == ["one!"]
        bench.store.writing.open()
        assert await bench.turn(again, "two")
        bench.agents.close(again)

    bench.run(use())
    assert bench.remembered() == ["one!", "two!"]


def test_who_leaves_while_the_record_is_read_does_not_stop_it_for_others() -> None:
    bench = Bench()
    bench.store.reading.shut()

    async def use() -> None:
        first = asyncio.create_task(bench.agents.open(CODER))
        await asyncio.to_thread(bench.store.reading.wait_reached)
        second = asyncio.create_task(bench.agents.open(CODER))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        bench.store.reading.open()
        opened = await second
        assert opened.users == 1
        bench.agents.close(opened)
        assert not bench.agents._open

    bench.run(use())


def test_a_store_that_raises_leaves_nobody_open() -> None:
    bench = Bench()

    class Broken(ObservedAgents):
        def load(self, agent: AgentId) -> None:
            raise RuntimeError(f"a bug in the store: {agent.name}")

    agents = Agents(Broken(), bench.writes, NAMESPACE, AgentLimits(8), bench.clock, bench.telemetry)

    async def use() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="a bug"):
                await agents.open(CODER)
        assert not agents._open

    bench.run(use())


def test_a_loop_that_is_gone_is_not_told() -> None:
    bench = Bench()
    bench.store.writing.shut()

    async def use() -> None:
        opened = await bench.agents.open(CODER)
        turn = asyncio.create_task(bench.turn(opened, "one"))
        await asyncio.to_thread(bench.store.writing.wait_reached)
        turn.cancel()

    bench.run(use())
    assert bench.remembered() == ["one!"]
    assert bench.telemetry.events == []


def test_after_the_writer_is_closed_nobody_waits() -> None:
    bench = Bench()

    async def use() -> None:
        opened = await bench.agents.open(CODER)
        assert await asyncio.to_thread(bench.writes.close, PATIENCE_S)
        assert not await bench.turn(opened, "one")

    bench.run(use())


def test_two_tenants_agents_of_one_name_remember_apart() -> None:
    bench = Bench()
    tenants = (DEFAULT_TENANT, TenantId("acme"))

    async def work() -> None:
        for tenant in tenants:
            opened = await bench.agents.open(CODER, tenant)
            assert texts(opened) == []
            assert await bench.turn(opened, f"of {tenant}")
            bench.agents.close(opened)
        for tenant in tenants:
            opened = await bench.agents.open(CODER, tenant)
            assert texts(opened) == [f"of {tenant}!"]
            assert opened.record.tenant == tenant
            bench.agents.close(opened)

    bench.run(work())
    assert {(one.name, one.tenant) for one in bench.store.list()} == {
        ("coder", tenant) for tenant in tenants
    }


def test_a_tenants_open_agent_is_in_nobody_elses_way() -> None:
    bench = Bench()

    async def work() -> None:
        opened = await bench.agents.open(CODER, TenantId("acme"))

        async def nothing() -> int:
            return 1

        assert await bench.agents.while_closed(CODER, nothing, 0) == 1
        with pytest.raises(AgentBusyError):
            await bench.agents.while_closed(CODER, nothing, 0, TenantId("acme"))
        bench.agents.close(opened)

    bench.run(work())


class HungDisk(Bench):
    """A store whose reading hangs, after a first life of it has left a branch there."""

    def __init__(self, *turns: str, max_branches: int = 8) -> None:
        super().__init__(max_branches=max_branches, silence_s=0.02)
        branches = tuple(Branch((Segment(f"{text}!", (1,)),)) for text in turns)
        if branches:
            self.store.save(STORED, AgentRecord(CODER.name, NAMESPACE, branches, updated_at=1.0))
        self.store.reading.shut()


def test_a_record_that_does_not_come_is_done_without_and_joined_later() -> None:
    bench = HungDisk("before")

    async def work() -> None:
        opened = await bench.agents.open(CODER)
        assert texts(opened) == []
        turns = [asyncio.create_task(bench.turn(opened, text)) for text in ("one", "two")]
        await asyncio.sleep(0)
        assert texts(opened) == ["one!", "two!"]
        assert bench.remembered() == ["before!"]
        bench.agents.close(opened)
        bench.store.reading.open()
        assert await asyncio.gather(*turns) == [True, True]
        assert not bench.agents._open

    bench.run(work())
    assert bench.remembered() == ["before!", "one!", "two!"]
    assert bench.journal.entries.count(("load", STORED.key)) == 1
    assert bench.telemetry.names() == ["agent_unread"]


def test_a_conversation_goes_on_while_its_record_does_not_come() -> None:
    bench = HungDisk("before")

    async def work() -> None:
        opened = await bench.agents.open(CODER)
        first = asyncio.create_task(bench.turn(opened, "one"))
        await asyncio.sleep(0)
        recalled = recall(opened.record.branches, "one!more")
        assert recalled.length == 4
        bench.store.reading.open()
        assert await first
        # It was recalled before the record came, and is known again in it.
        assert texts(opened) == ["before!", "one!"]
        assert await bench.finish(opened, recalled, "one!more")
        bench.agents.close(opened)

    bench.run(work())
    assert bench.remembered() == ["before!", "one!more!"]


def test_of_what_is_joined_the_oldest_branches_give_way() -> None:
    bench = HungDisk("a", "b", max_branches=2)

    async def work() -> None:
        opened = await bench.agents.open(CODER)
        turn = asyncio.create_task(bench.turn(opened, "c"))
        await asyncio.sleep(0)
        bench.store.reading.open()
        assert await turn
        bench.agents.close(opened)

    bench.run(work())
    assert bench.remembered() == ["b!", "c!"]


def test_an_agent_without_a_record_is_remembered_once_that_is_known() -> None:
    bench = HungDisk()

    async def work() -> None:
        opened = await bench.agents.open(CODER)
        turn = asyncio.create_task(bench.turn(opened, "one"))
        await asyncio.sleep(0)
        assert bench.agents.unsaved() == ()
        bench.store.reading.open()
        assert await turn
        bench.agents.close(opened)

    bench.run(work())
    assert bench.remembered() == ["one!"]


def test_of_a_disk_that_never_answers_nothing_is_written_over() -> None:
    bench = HungDisk("before")

    async def work() -> None:
        opened = await bench.agents.open(CODER)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bench.turn(opened, "one"), 0.02)
        bench.agents.close(opened)
        # What it remembers stays here, and nobody reads the record a second time.
        again = await bench.agents.open(CODER)
        assert again is opened
        assert texts(again) == ["one!"]
        bench.agents.close(again)

    bench.run(work())
    assert bench.remembered() == ["before!"]
    assert bench.telemetry.names() == ["agent_unread", "agent_not_saved"]
    assert bench.journal.entries == [("save", STORED.key), ("load", STORED.key)]


def test_a_record_that_fails_late_is_not_written_over() -> None:
    bench = HungDisk("before")

    async def work() -> None:
        opened = await bench.agents.open(CODER)
        turn = asyncio.create_task(bench.turn(opened, "one"))
        await asyncio.sleep(0)
        bench.store.unreadable = True
        bench.store.reading.open()
        assert not await turn
        assert not await bench.turn(opened, "two")
        with pytest.raises(RuntimeError):
            await bench.agents.open(CODER)
        bench.agents.close(opened)
        assert not bench.agents._open

    bench.run(work())
    assert bench.remembered() == ["before!"]
    assert bench.telemetry.names() == ["agent_unread", "agent_not_saved", "agent_not_saved"]


def test_an_agent_whose_record_does_not_come_is_busy() -> None:
    bench = HungDisk("before")

    async def nothing() -> None:
        raise AssertionError

    async def work() -> None:
        opened = await bench.agents.open(CODER)
        bench.agents.close(opened)
        with pytest.raises(AgentBusyError):
            await bench.agents.while_closed(CODER, nothing, 0.02)

    bench.run(work())


def test_many_hung_records_are_in_nobody_elses_way() -> None:
    bench = HungDisk()
    agents = [AgentId.parse(f"agent {number}", field="agent") for number in range(100)]

    async def work() -> None:
        opened = await asyncio.gather(*map(bench.agents.open, agents))
        turns = [asyncio.create_task(bench.turn(one, "one")) for one in opened]
        assert await asyncio.to_thread(lambda: 5) == 5
        readers = [one for one in threading.enumerate() if one.name == "agent-reader"]
        assert 0 < len(readers) < 50
        bench.store.reading.open()
        assert all(await asyncio.gather(*turns))
        for one in opened:
            bench.agents.close(one)
        assert not bench.agents._open

    bench.run(work())
    assert len(list(bench.store.list())) == 100


def test_a_record_that_cannot_be_read_now_is_not_written_over() -> None:
    bench = Bench()

    async def work() -> None:
        opened = await bench.agents.open(CODER)
        assert await bench.turn(opened, "before")
        bench.agents.close(opened)
        bench.store.failing = True
        opened = await bench.agents.open(CODER)
        assert texts(opened) == []
        bench.store.failing = False
        assert not await bench.turn(opened, "lost")
        bench.agents.close(opened)
        opened = await bench.agents.open(CODER)
        assert texts(opened) == ["before!"]
        assert await bench.turn(opened, "after")
        bench.agents.close(opened)

    bench.run(work())
    assert bench.remembered() == ["before!", "after!"]
    assert bench.telemetry.names() == ["agent_not_saved"]
