from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.blocks import MINE, NAMESPACE, OTHER_NAMESPACE, SECRET, plant_secret
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.memory_block_store import MemoryBlockStore
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.remembered import remember, store_blocks, tokens

from semantic.adapters.outbound.storage.agent_listing import AgentListing
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.committed_blocks import CommittedBlocks
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.application.agent_inspection import Memory, Remembered, agents, footprints
from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.block import PartId, PartKind
from semantic.domain.block_hash import block_key, root_key
from semantic.domain.errors import AgentNotFoundError, InvalidRequestError
from semantic.domain.ids import PUBLIC, TenantId, TokenId
from semantic.ports.block_store import BlockStore, DurableBlocks


@pytest.fixture
def records() -> MemoryAgentStore:
    return MemoryAgentStore()


@pytest.fixture
def blocks() -> MemoryBlockStore:
    return MemoryBlockStore()


def test_agents_are_listed_by_name(records: MemoryAgentStore, blocks: MemoryBlockStore) -> None:
    remember(records, blocks, "zoë", tokens(300))
    remember(records, blocks, "al", tokens(10), tokens(20), (*tokens(10), 1))
    found = agents(Remembered(records, blocks, SECRET, blocks))
    assert [agent.name for agent in found] == ["al", "zoë"]
    assert found[0].branches == (10, 20, 11)
    assert found[0].tokens == 21
    assert (found[0].namespace, found[0].last_used) == (NAMESPACE, 2.0)


def test_an_agent_has_a_memory_for_each_model(
    records: MemoryAgentStore, blocks: MemoryBlockStore
) -> None:
    remember(records, blocks, "al", tokens(10))
    remember(records, blocks, "al", tokens(20), namespace=OTHER_NAMESPACE)
    assert sorted(
        agent.namespace for agent in agents(Remembered(records, blocks, SECRET, blocks))
    ) == sorted([NAMESPACE, OTHER_NAMESPACE])
    assert sorted(
        found.summary.tokens
        for found in footprints("al", Remembered(records, blocks, SECRET, blocks))
    ) == [10, 20]


def test_what_an_agent_takes_and_what_of_it_is_its_alone(
    records: MemoryAgentStore, blocks: MemoryBlockStore
) -> None:
    shared = tokens(256)
    remember(records, blocks, "al", (*shared, *tokens(300, of=2)))
    remember(records, blocks, "bo", (*shared, *tokens(5, of=3)))
    store_blocks(blocks, tokens(256, of=4))
    [al] = footprints("al", Remembered(records, blocks, SECRET, blocks))
    [bo] = footprints("bo", Remembered(records, blocks, SECRET, blocks))
    a_token = bo.nbytes_alone // 5
    assert (al.blocks, bo.blocks) == (3, 2)
    assert (al.nbytes, al.nbytes_alone) == (556 * a_token, 300 * a_token)
    assert bo.nbytes == 261 * a_token


def test_all_parts_of_a_block_are_measured(
    records: MemoryAgentStore, blocks: MemoryBlockStore
) -> None:
    extras = (PartKind.SLIDING, PartKind.STATE)
    remember(records, blocks, "al", tokens(300), extras=extras)
    [al] = footprints("al", Remembered(records, blocks, SECRET, blocks))
    parts = [header.id for header in blocks.headers(NAMESPACE)]
    assert (al.blocks, len(parts)) == (2, 6)
    assert al.nbytes == al.nbytes_alone == sum(blocks.nbytes(NAMESPACE, part) for part in parts)


def test_a_name_is_found_as_it_is_spelled_in_a_request(
    records: MemoryAgentStore, blocks: MemoryBlockStore
) -> None:
    remember(records, blocks, "al/🦜 x", tokens(1))
    assert (
        footprints("  al/🦜 x ", Remembered(records, blocks, SECRET, blocks))[0].summary.name
        == "al/🦜 x"
    )


def test_an_unknown_agent_is_an_error(records: MemoryAgentStore, blocks: MemoryBlockStore) -> None:
    with pytest.raises(AgentNotFoundError, match="'al'"):
        footprints("al", Remembered(records, blocks, SECRET, blocks))


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 257, "../x"])
def test_a_name_that_no_agent_can_have_is_refused(
    records: MemoryAgentStore, blocks: MemoryBlockStore, name: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        footprints(name, Remembered(records, blocks, SECRET, blocks))
    assert caught.value.field == "name"


def test_blocks_on_disk_are_measured_without_being_touched(
    tmp_path: Path, records: MemoryAgentStore
) -> None:
    plant_secret(tmp_path)
    store = BlockFiles(tmp_path, RecordedTelemetry())
    remember(records, store, "al", tokens(300))
    (tmp_path / "tmp" / "block-1-0").write_bytes(b"a server is writing this")
    before = sorted(tmp_path.rglob("*"))
    telemetry = RecordedTelemetry()
    listing = BlockListing(tmp_path, telemetry)
    seen = Remembered(records, listing, SECRET, CommittedBlocks(tmp_path, listing))
    [found] = footprints("al", seen)
    assert found.nbytes == sum(path.stat().st_size for path in tmp_path.rglob("*.st"))
    assert sorted(tmp_path.rglob("*")) == before
    assert telemetry.names() == []


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    telemetry = RecordedTelemetry()
    listing = BlockListing(tmp_path / "none", telemetry)
    records, durable = (
        AgentListing(tmp_path / "none", telemetry),
        CommittedBlocks(tmp_path / "none", listing),
    )
    assert agents(Remembered(records, listing, SECRET, durable)) == ()
    assert list(listing.headers(NAMESPACE)) == []


def test_a_block_that_is_gone_takes_nothing(tmp_path: Path) -> None:
    plant_secret(tmp_path)
    store = BlockFiles(tmp_path, RecordedTelemetry())
    store_blocks(store, tokens(3))
    listing = BlockListing(tmp_path, RecordedTelemetry())
    [header] = listing.headers(NAMESPACE)
    store.delete(NAMESPACE, header.id)
    assert listing.nbytes(NAMESPACE, header.id) == 0


def test_a_tenant_sees_its_own_agents_alone(
    records: MemoryAgentStore, blocks: MemoryBlockStore
) -> None:
    acme = TenantId("acme")
    remember(records, blocks, "al", tokens(300))
    remember(records, blocks, "al", (*tokens(300), 1), tenant=acme)
    remember(records, blocks, "bo", tokens(300), tenant=acme)
    stored = Remembered(records, blocks, SECRET, blocks)
    assert [one.name for one in agents(stored)] == ["al"]
    assert [one.name for one in agents(stored, acme)] == ["al", "bo"]
    [al] = footprints("al", stored)
    [other] = footprints("al", stored, acme)
    assert (al.summary.tokens, other.summary.tokens) == (300, 301)
    # Of the same tokens, what others keep is theirs.
    assert (al.blocks, al.nbytes_alone) == (2, al.nbytes)
    assert (other.blocks, other.nbytes_alone < other.nbytes) == (3, True)
    with pytest.raises(AgentNotFoundError):
        footprints("bo", stored)
    with pytest.raises(AgentNotFoundError):
        footprints("al", stored, PUBLIC)


def record_of(*branches: tuple[TokenId, ...], now: float = 9.0) -> AgentRecord:
    return AgentRecord(
        "al", NAMESPACE, tuple(Branch((Segment("text", ids),)) for ids in branches), now
    )


class TestDurable:
    """What would survive a kill: of the newest branch, and of each."""

    @pytest.fixture(params=["memory", "index", "index, from beside", "files"])
    def stores(
        self, request: pytest.FixtureRequest, tmp_path: Path
    ) -> Iterator[tuple[BlockStore, DurableBlocks]]:
        if request.param == "memory":
            memory = MemoryBlockStore()
            yield memory, memory
            return
        plant_secret(tmp_path)
        indexed = IndexedBlocks(tmp_path, RecordedTelemetry(), FixedClock())
        beside = CommittedBlocks(tmp_path, BlockListing(tmp_path, RecordedTelemetry()))
        if request.param == "files":
            (tmp_path / "index.db").rename(tmp_path / "elsewhere.db")
        yield indexed, indexed if request.param == "index" else beside
        indexed.close()

    def test_all_that_blocks_hold(
        self, records: MemoryAgentStore, stores: tuple[BlockStore, DurableBlocks]
    ) -> None:
        blocks, durable = stores
        remember(records, blocks, "al", tokens(700), tokens(256, of=2), tokens(5, of=3))
        [al] = agents(Remembered(records, blocks, SECRET, durable))
        assert (al.durable_branches, al.durable_tokens) == ((700, 256, 5), 5)

    def test_up_to_the_first_gap(
        self, records: MemoryAgentStore, stores: tuple[BlockStore, DurableBlocks]
    ) -> None:
        blocks, durable = stores
        remember(records, blocks, "al", tokens(700))
        key = block_key(root_key(NAMESPACE, SECRET), tokens(256), MINE.salt)
        first = PartId(key, PartKind.FULL)
        second = PartId(block_key(key, tokens(512)[256:]), PartKind.FULL)
        stored = Remembered(records, blocks, SECRET, durable)
        blocks.delete(NAMESPACE, first)
        assert agents(stored)[0].durable_tokens == 0
        store_blocks(blocks, tokens(700))
        blocks.delete(NAMESPACE, second)
        assert agents(stored)[0].durable_tokens == 256

    def test_text_without_a_block_is_not(
        self, records: MemoryAgentStore, stores: tuple[BlockStore, DurableBlocks]
    ) -> None:
        blocks, durable = stores
        remember(records, blocks, "al", tokens(300))
        records.save(AgentId.parse("al", field="name").within(NAMESPACE), record_of(tokens(350)))
        [al] = agents(Remembered(records, blocks, SECRET, durable))
        assert (al.tokens, al.durable_tokens) == (350, 300)

    def test_a_block_that_holds_more_than_is_remembered_counts(
        self, records: MemoryAgentStore, stores: tuple[BlockStore, DurableBlocks]
    ) -> None:
        blocks, durable = stores
        store_blocks(blocks, tokens(512))
        store_blocks(blocks, (*tokens(270), 1))
        agent = AgentId.parse("al", field="name").within(NAMESPACE)
        records.save(agent, record_of(tokens(500)))
        assert agents(Remembered(records, blocks, SECRET, durable))[0].durable_tokens == 500
        records.save(agent, record_of(tokens(290)))
        [al] = footprints("al", Remembered(records, blocks, SECRET, durable))
        assert al.summary.durable_tokens == 290

    def test_what_adds_to_a_block_makes_none(
        self, records: MemoryAgentStore, stores: tuple[BlockStore, DurableBlocks]
    ) -> None:
        blocks, durable = stores
        [key] = remember(records, blocks, "al", tokens(256), extras=[PartKind.SLIDING])
        blocks.delete(NAMESPACE, PartId(key, PartKind.FULL))
        assert agents(Remembered(records, blocks, SECRET, durable))[0].durable_tokens == 0

    def test_a_turn_is_once_its_record_is_saved(
        self, records: MemoryAgentStore, blocks: MemoryBlockStore
    ) -> None:
        remember(records, blocks, "al", tokens(300))
        store_blocks(blocks, tokens(400))
        [saved] = records.list()
        newer = record_of(tokens(7, of=2), tokens(400))
        [al] = agents(Remembered(records, blocks, SECRET, blocks), unsaved=[Memory(newer, saved)])
        assert al.branches == (7, 400)
        assert (al.durable_branches, al.durable_tokens) == ((0, 300), 300)
        [al] = agents(Remembered(records, blocks, SECRET, blocks), unsaved=[Memory(newer, None)])
        assert al.durable_tokens == 0
        [shown] = footprints(
            "al", Remembered(records, blocks, SECRET, blocks), unsaved=[Memory(newer, saved)]
        )
        assert shown.summary.durable_tokens == 300

    def test_an_agent_that_was_never_saved_is_listed(
        self, records: MemoryAgentStore, blocks: MemoryBlockStore
    ) -> None:
        store_blocks(blocks, tokens(400))
        [al] = agents(
            Remembered(records, blocks, SECRET, blocks),
            unsaved=[Memory(record_of(tokens(400)), None)],
        )
        assert (al.name, al.tokens, al.durable_tokens) == ("al", 400, 0)

    def test_a_record_saved_meanwhile_is_the_newest(
        self, records: MemoryAgentStore, blocks: MemoryBlockStore
    ) -> None:
        remember(records, blocks, "al", tokens(300))
        [saved] = records.list()
        older = replace(saved, updated_at=saved.updated_at - 1, branches=())
        [al] = agents(Remembered(records, blocks, SECRET, blocks), unsaved=[Memory(older, None)])
        assert al.durable_tokens == 300

    def test_a_file_without_a_row_does_not_count(
        self, tmp_path: Path, records: MemoryAgentStore
    ) -> None:
        plant_secret(tmp_path)
        indexed = IndexedBlocks(tmp_path, RecordedTelemetry(), FixedClock())
        remember(records, BlockFiles(tmp_path, RecordedTelemetry()), "al", tokens(300))
        beside = CommittedBlocks(tmp_path, BlockListing(tmp_path, RecordedTelemetry()))
        assert agents(Remembered(records, indexed, SECRET, beside))[0].durable_tokens == 0
        store_blocks(indexed, tokens(300))
        assert agents(Remembered(records, indexed, SECRET, beside))[0].durable_tokens == 300
        indexed.close()
