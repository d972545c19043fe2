from pathlib import Path

import pytest
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, SECRET, plant_secret
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.memory_block_store import MemoryBlockStore
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.remembered import remember, store_blocks, tokens

from semantic.adapters.outbound.storage.agent_listing import AgentListing
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.application.agent_inspection import Remembered, agents, footprints
from semantic.domain.block import PartKind
from semantic.domain.errors import AgentNotFoundError, InvalidRequestError
from semantic.domain.ids import PUBLIC, TenantId


@pytest.fixture
def records() -> MemoryAgentStore:
    return MemoryAgentStore()


@pytest.fixture
def blocks() -> MemoryBlockStore:
    return MemoryBlockStore()


def test_agents_are_listed_by_name(records: MemoryAgentStore, blocks: MemoryBlockStore) -> None:
    remember(records, blocks, "zoë", tokens(300))
    remember(records, blocks, "al", tokens(10), tokens(20), (*tokens(10), 1))
    found = agents(records)
    assert [agent.name for agent in found] == ["al", "zoë"]
    assert found[0].branches == (10, 20, 11)
    assert found[0].tokens == 21
    assert (found[0].namespace, found[0].last_used) == (NAMESPACE, 2.0)


def test_an_agent_has_a_memory_for_each_model(
    records: MemoryAgentStore, blocks: MemoryBlockStore
) -> None:
    remember(records, blocks, "al", tokens(10))
    remember(records, blocks, "al", tokens(20), namespace=OTHER_NAMESPACE)
    assert sorted(agent.namespace for agent in agents(records)) == sorted(
        [NAMESPACE, OTHER_NAMESPACE]
    )
    assert sorted(
        found.summary.tokens for found in footprints("al", Remembered(records, blocks, SECRET))
    ) == [10, 20]


def test_what_an_agent_takes_and_what_of_it_is_its_alone(
    records: MemoryAgentStore, blocks: MemoryBlockStore
) -> None:
    shared = tokens(256)
    remember(records, blocks, "al", (*shared, *tokens(300, of=2)))
    remember(records, blocks, "bo", (*shared, *tokens(5, of=3)))
    store_blocks(blocks, tokens(256, of=4))
    [al] = footprints("al", Remembered(records, blocks, SECRET))
    [bo] = footprints("bo", Remembered(records, blocks, SECRET))
    a_token = bo.nbytes_alone // 5
    assert (al.blocks, bo.blocks) == (3, 2)
    assert (al.nbytes, al.nbytes_alone) == (556 * a_token, 300 * a_token)
    assert bo.nbytes == 261 * a_token


def test_all_parts_of_a_block_are_measured(
    records: MemoryAgentStore, blocks: MemoryBlockStore
) -> None:
    extras = (PartKind.SLIDING, PartKind.STATE)
    remember(records, blocks, "al", tokens(300), extras=extras)
    [al] = footprints("al", Remembered(records, blocks, SECRET))
    parts = [header.id for header in blocks.headers(NAMESPACE)]
    assert (al.blocks, len(parts)) == (2, 6)
    assert al.nbytes == al.nbytes_alone == sum(blocks.nbytes(NAMESPACE, part) for part in parts)


def test_a_name_is_found_as_it_is_spelled_in_a_request(
    records: MemoryAgentStore, blocks: MemoryBlockStore
) -> None:
    remember(records, blocks, "al/🦜 x", tokens(1))
    assert (
        footprints("  al/🦜 x ", Remembered(records, blocks, SECRET))[0].summary.name == "al/🦜 x"
    )


def test_an_unknown_agent_is_an_error(records: MemoryAgentStore, blocks: MemoryBlockStore) -> None:
    with pytest.raises(AgentNotFoundError, match="'al'"):
        footprints("al", Remembered(records, blocks, SECRET))


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 257, "../x"])
def test_a_name_that_no_agent_can_have_is_refused(
    records: MemoryAgentStore, blocks: MemoryBlockStore, name: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        footprints(name, Remembered(records, blocks, SECRET))
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
    [found] = footprints("al", Remembered(records, BlockListing(tmp_path, telemetry), SECRET))
    assert found.nbytes == sum(path.stat().st_size for path in tmp_path.rglob("*.st"))
    assert sorted(tmp_path.rglob("*")) == before
    assert telemetry.names() == []


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    telemetry = RecordedTelemetry()
    assert agents(AgentListing(tmp_path / "none", telemetry)) == ()
    assert list(BlockListing(tmp_path / "none", telemetry).headers(NAMESPACE)) == []


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
    assert [one.name for one in agents(records)] == ["al"]
    assert [one.name for one in agents(records, acme)] == ["al", "bo"]
    stored = Remembered(records, blocks, SECRET)
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
