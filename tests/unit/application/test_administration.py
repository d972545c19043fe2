import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace

import pytest
from tests.fakes.blocks import OTHER_NAMESPACE, SECRET
from tests.fakes.observed_stores import Gate, ObservedAgents
from tests.fakes.remembered import remember, tokens
from tests.fakes.scripted_executor import (
    EVERYTHING,
    HYBRID,
    LONG_WINDOW,
    NAMESPACE,
    UNIFORM,
    ScriptedExecutor,
)
from tests.fakes.small_engine import SmallEngine
from tests.unit.application.test_generation import CODER, Server, letters, request_of

from semantic.application.administration import LiveAdministration, ServedMemory
from semantic.application.agent_deletion import Forgettable
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import num_blocks
from semantic.domain.cache_spec import ModelCacheSpec
from semantic.domain.errors import (
    AgentBusyError,
    AgentNotFoundError,
    CachePersistenceError,
    EngineError,
    InvalidRequestError,
)
from semantic.domain.ids import BlockKey, TenantId
from semantic.ports.administration import Administration

LONG = "it was a dark and stormy night, " * 20
OTHER = AgentId.parse("writer", field="agent")


class Administered(Server):
    """A server with its administration."""

    def administration(self, timeout_s: float = 10.0) -> Administration:
        served = ServedMemory(
            NAMESPACE,
            self.agents,
            self.engine.loop,
            self.engine.writes,
            self.engine.cache.gauge,
        )
        stored = Forgettable(self.engine.agents, self.engine.blocks, SECRET)
        return LiveAdministration(stored, self.engine.blocks, served, timeout_s)

    def start(self) -> "Administered":
        super().start()
        return self

    def delete(self, name: str = CODER.name) -> int:
        """The number of blocks that went."""
        return self.run(self.administration().delete_agent(name)).blocks

    def talk(self, agent: AgentId, text: str) -> int:
        """The number of tokens that were reused."""
        return self.run(self.answered(request_of(text, agent=agent))).cached

    def on_disk(self) -> set[BlockKey]:
        return {header.key for header in self.engine.blocks.headers(NAMESPACE)}


@pytest.fixture
def server() -> Iterator[Administered]:
    made = Administered().start()
    yield made
    made.stop()


def test_a_deleted_agent_is_gone_from_disk_and_from_memory(server: Administered) -> None:
    server.talk(CODER, LONG)
    assert server.on_disk()
    assert server.delete() == 3
    assert server.on_disk() == set()
    assert list(server.engine.agents.list()) == []
    assert (len(server.engine.cache.parts.index), len(server.engine.cache.parts._hot)) == (0, 0)
    assert server.talk(CODER, LONG) == 0


def test_an_agent_whose_record_is_still_being_written_is_deleted_after_that() -> None:
    server = Administered(awaits_commit=False).start()
    server.engine.agents.writing.shut()

    async def use() -> None:
        await server.answered(request_of(LONG))
        await asyncio.to_thread(server.engine.agents.writing.wait_reached)
        with pytest.raises(AgentBusyError):
            await server.administration(timeout_s=0.01).delete_agent(CODER.name)
        deleting = asyncio.create_task(server.administration().delete_agent(CODER.name))
        await asyncio.sleep(0)
        server.engine.agents.writing.open()
        assert (await deleting).blocks == 3

    server.run(use())
    assert server.on_disk() == set()
    assert list(server.engine.agents.list()) == []
    server.stop()


@pytest.mark.parametrize("spec", [LONG_WINDOW, HYBRID, EVERYTHING])
def test_all_parts_of_a_deleted_agent_go(spec: ModelCacheSpec) -> None:
    server = Administered(SmallEngine(ScriptedExecutor(spec, letters))).start()
    server.talk(CODER, LONG)
    server.talk(OTHER, "hi")
    kept = {header.id for header in server.engine.blocks.headers(NAMESPACE)}
    server.talk(CODER, LONG + "more")
    extras = {header.kind for header in server.engine.blocks.headers(NAMESPACE)}
    assert extras > set(spec.resume_rule.extras)
    server.delete()
    left = {header.id for header in server.engine.blocks.headers(NAMESPACE)}
    assert left < kept
    server.delete(OTHER.name)
    assert server.on_disk() == set()
    assert (len(server.engine.cache.parts.index), len(server.engine.cache.parts._hot)) == (0, 0)
    assert server.talk(CODER, LONG) == 0
    server.stop()


def test_a_deleted_agent_may_begin_anew(server: Administered) -> None:
    server.talk(CODER, LONG)
    server.delete()
    server.talk(CODER, LONG)
    assert len(server.on_disk()) == 3
    assert server.talk(CODER, LONG) > 512


def test_what_another_agent_shares_stays_for_it(server: Administered) -> None:
    server.talk(CODER, LONG + "one")
    server.talk(OTHER, LONG + "two")
    before = server.on_disk()
    assert server.delete() == 1
    assert len(before - server.on_disk()) == 1
    assert server.talk(OTHER, LONG + "two") > 512


def test_an_agent_is_forgotten_by_other_models_too(server: Administered) -> None:
    records, blocks = server.engine.agents, server.engine.blocks
    remember(records, blocks, CODER.name, tokens(300), namespace=OTHER_NAMESPACE)
    server.talk(CODER, LONG)
    deleted = server.run(server.administration().delete_agent(CODER.name))
    assert (deleted.memories, deleted.blocks) == (2, 5)
    assert list(records.list()) == []


def test_an_unknown_agent_is_an_error(server: Administered) -> None:
    server.talk(OTHER, LONG)
    before = server.on_disk()
    with pytest.raises(AgentNotFoundError):
        server.delete()
    assert server.on_disk() == before


@pytest.mark.parametrize("name", ["", " ", "a\nb", "../x"])
def test_a_name_that_no_agent_can_have_is_refused(server: Administered, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        server.delete(name)


def test_an_agent_that_is_being_answered_is_left_alone(server: Administered) -> None:
    server.talk(CODER, LONG)
    before = server.on_disk()

    async def run() -> None:
        events = await server.generation.generate(request_of("more", max_tokens=100))
        with pytest.raises(AgentBusyError, match="'coder' is being answered"):
            await server.administration().delete_agent(CODER.name)
        await events.aclose()

    server.run(run())
    assert before <= server.on_disk()


def test_who_asks_while_the_agent_goes_finds_it_gone(server: Administered) -> None:
    server.talk(CODER, LONG)

    async def run() -> int:
        deletion = asyncio.create_task(server.administration().delete_agent(CODER.name))
        await asyncio.sleep(0)
        answer = await server.answered(request_of(LONG))
        assert deletion.done()
        return answer.cached

    assert server.run(run()) == 0


def test_what_cannot_be_removed_is_an_error_and_is_still_remembered(
    server: Administered,
) -> None:
    server.talk(CODER, LONG)
    server.engine.blocks.journal.undeletable.update(
        header.id for header in server.engine.blocks.headers(NAMESPACE)
    )
    with pytest.raises(CachePersistenceError):
        server.delete()
    assert [record.name for record in server.engine.agents.list()] == [CODER.name]
    assert "block_not_deleted" in server.names()


@pytest.mark.parametrize("spec", [UNIFORM, EVERYTHING])
def test_what_could_not_be_removed_goes_when_it_is_tried_again(spec: ModelCacheSpec) -> None:
    server = Administered(SmallEngine(ScriptedExecutor(spec, letters))).start()
    server.talk(CODER, LONG)
    stuck = [header.id for header in server.engine.blocks.headers(NAMESPACE)]
    server.engine.blocks.journal.undeletable.update(stuck)
    with pytest.raises(CachePersistenceError):
        server.delete()
    server.engine.blocks.journal.undeletable.clear()
    assert server.delete() == num_blocks(stuck)
    assert server.on_disk() == set()
    assert list(server.engine.agents.list()) == []
    server.stop()


def test_what_the_cache_has_forgotten_goes_as_well(server: Administered) -> None:
    server.talk(CODER, LONG)
    first = next(iter(server.engine.blocks.headers(NAMESPACE)))
    server.engine.cache.parts.forget(first.id)
    assert server.delete() == 3
    assert server.on_disk() == set()


def test_a_disk_that_hangs_costs_a_limited_time(server: Administered) -> None:
    server.talk(CODER, LONG)
    server.engine.blocks.writing.shut()

    async def run() -> None:
        for _ in range(2):  # what nobody names is written when it comes back
            events = await server.generation.generate(request_of(LONG * 2, agent=None))
            async for _ in events:
                pass
        with pytest.raises(CachePersistenceError):
            await server.administration(timeout_s=0.05).delete_agent(CODER.name)
        server.engine.blocks.writing.open()

    server.run(run())


def test_without_an_engine_nothing_is_deleted() -> None:
    server = Administered().start()
    server.talk(CODER, LONG)
    before = server.on_disk()
    server.stop()
    with pytest.raises(EngineError):
        server.delete()
    assert server.on_disk() == before


def test_memories_can_be_looked_at(server: Administered) -> None:
    server.talk(CODER, LONG)
    server.talk(OTHER, "hi")
    found = server.run(server.administration().agents())
    assert [agent.name for agent in found] == [CODER.name, OTHER.name]
    [one] = server.run(server.administration().agent(CODER.name))
    assert one.summary == found[0]
    assert (one.blocks, one.nbytes > 0) == (3, True)


def test_a_tenant_administers_its_own_agents(server: Administered) -> None:
    acme = TenantId("acme")
    server.talk(CODER, LONG)
    server.run(server.answered(replace(request_of(LONG, agent=CODER), tenant=acme)))
    administration = server.administration()
    [own] = server.run(administration.agent(CODER.name, acme))
    assert (own.summary.name, own.blocks) == (CODER.name, 3)
    assert server.run(administration.delete_agent(CODER.name, acme)).blocks == 3
    assert server.run(administration.agents(acme)) == ()
    assert [one.name for one in server.run(administration.agents())] == [CODER.name]
    assert {one.tenant for one in server.engine.blocks.headers(NAMESPACE)} == {"default"}
    assert server.talk(CODER, LONG) > 0


def test_the_memory_for_kv_is_seen(server: Administered) -> None:
    administration = server.administration()
    before = server.run(administration.memory_use())
    assert (before.total, before.free) == (server.engine.kv_bytes, server.engine.kv_bytes)
    server.talk(CODER, LONG)
    server.stop()  # the turn in which the answer ended has ended
    after = server.run(administration.memory_use())
    pool = server.engine.cache.parts.pool
    assert (after.cached, after.free, after.held) == (pool.cached, pool.free, 0)
    assert after.cached > 0
    assert (after.in_work, after.batches, after.waiting) == (0, 0, 0)


class HungRecords(ObservedAgents):
    """`listing` is passed before anything is listed."""

    def __init__(self) -> None:
        super().__init__()
        self.listing = Gate()

    def list(self) -> Iterator[AgentRecord]:
        self.listing.enter()
        return super().list()


def test_a_disk_that_hangs_while_it_is_read_costs_a_limited_time() -> None:
    records = HungRecords()
    server = Administered(SmallEngine(ScriptedExecutor(choose=letters), agents=records)).start()
    server.talk(CODER, LONG)
    records.listing.shut()
    administration = server.administration(timeout_s=0.02)
    asked: tuple[Coroutine[object, object, object], ...] = (
        administration.agents(),
        administration.agent(CODER.name),
        administration.delete_agent(CODER.name),
        *(administration.agents() for _ in range(10)),
    )

    async def run() -> None:
        for one in asked:
            with pytest.raises(CachePersistenceError, match="does not answer"):
                await one

    server.run(run())
    records.listing.open()
    assert len(server.run(server.administration().agents())) == 1
    assert server.delete() == 3
    server.stop()
