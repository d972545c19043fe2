from pathlib import Path

import pytest
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, SECRET, plant_secret
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.memory_block_store import MemoryBlockStore
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.remembered import remember, store_blocks, tokens

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.application.agent_deletion import Forgettable, delete_agent
from semantic.domain.block import PartId, PartKind
from semantic.domain.errors import AgentNotFoundError, CachePersistenceError
from semantic.domain.ids import PUBLIC, BlockKey, Namespace, TenantId
from semantic.ports.agent_store import AgentStore
from semantic.ports.block_store import BlockStore

Stores = tuple[AgentStore, BlockStore]


@pytest.fixture(params=["disk", "memory"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    if request.param == "memory":
        return MemoryAgentStore(), MemoryBlockStore()
    telemetry = RecordedTelemetry()
    plant_secret(tmp_path)
    return AgentFiles(tmp_path, telemetry), BlockFiles(tmp_path, telemetry)


def held(blocks: BlockStore) -> set[BlockKey]:
    return {header.key for header in blocks.headers(NAMESPACE)}


def test_an_agent_goes_with_all_that_only_it_needs(stores: Stores) -> None:
    records, blocks = stores
    remember(records, blocks, "al", tokens(600), tokens(300, of=2))
    deleted = delete_agent("al", Forgettable(records, blocks, SECRET))
    assert (deleted.name, deleted.memories, deleted.blocks) == ("al", 1, 5)
    assert list(records.list()) == []
    assert held(blocks) == set()


def test_all_parts_of_a_block_go(stores: Stores) -> None:
    records, blocks = stores
    extras = (PartKind.SLIDING, PartKind.STATE)
    remember(records, blocks, "al", tokens(300), extras=extras)
    bos = remember(records, blocks, "bo", tokens(300, of=2), extras=extras)
    assert delete_agent("al", Forgettable(records, blocks, SECRET)).blocks == 2
    assert held(blocks) == bos
    assert len(list(blocks.headers(NAMESPACE))) == 2 * 3


@pytest.mark.parametrize("gone", [0, 1])
def test_what_is_left_of_a_damaged_block_goes_too(stores: Stores, gone: int) -> None:
    records, blocks = stores
    extras = (PartKind.SLIDING, PartKind.STATE)
    remember(records, blocks, "al", tokens(300), extras=extras)
    bos = remember(records, blocks, "bo", tokens(300, of=2), extras=extras)
    begins = [one for one in blocks.headers(NAMESPACE) if one.kind.begins and one.key not in bos]
    begins.sort(key=lambda one: one.start)
    blocks.delete(NAMESPACE, begins[gone].id)  # as if it had been set aside
    delete_agent("al", Forgettable(records, blocks, SECRET))
    assert held(blocks) == bos


def test_what_another_agent_needs_stays(stores: Stores) -> None:
    records, blocks = stores
    shared = tokens(512)
    remember(records, blocks, "al", (*shared, *tokens(300, of=2)))
    bos = remember(records, blocks, "bo", (*shared, *tokens(7, of=3)))
    assert delete_agent("al", Forgettable(records, blocks, SECRET)).blocks == 2
    assert held(blocks) == bos
    assert [record.name for record in records.list()] == ["bo"]


def test_blocks_behind_those_that_go_do_not_stay_behind(stores: Stores) -> None:
    records, blocks = stores
    remember(records, blocks, "al", tokens(512))
    store_blocks(blocks, tokens(1000))  # a branch that has been dropped since
    delete_agent("al", Forgettable(records, blocks, SECRET))
    assert held(blocks) == set()


def test_a_strangers_blocks_stay(stores: Stores) -> None:
    records, blocks = stores
    remember(records, blocks, "al", tokens(10))
    strangers = set(store_blocks(blocks, tokens(300, of=2)))
    delete_agent("al", Forgettable(records, blocks, SECRET))
    assert held(blocks) == strangers


def test_an_agent_is_forgotten_by_every_model(stores: Stores) -> None:
    records, blocks = stores
    remember(records, blocks, "al", tokens(10))
    remember(records, blocks, "al", tokens(10), namespace=OTHER_NAMESPACE)
    remember(records, blocks, "bo", tokens(10), namespace=OTHER_NAMESPACE)
    assert delete_agent("al", Forgettable(records, blocks, SECRET)).memories == 2
    assert held(blocks) == set()
    assert len(list(blocks.headers(OTHER_NAMESPACE))) == 1


def test_an_unknown_agent_is_an_error_and_nothing_goes(stores: Stores) -> None:
    records, blocks = stores
    bos = remember(records, blocks, "bo", tokens(10))
    with pytest.raises(AgentNotFoundError):
        delete_agent("al", Forgettable(records, blocks, SECRET))
    assert held(blocks) == bos


class FailsAfter(MemoryBlockStore):
    """The medium fails after so many deletions."""

    left = 0

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        for part in parts:
            self.left -= 1
            self.failing = self.left < 0
            super().delete(namespace, part)


@pytest.mark.parametrize("deletions", range(9))
def test_a_deletion_that_was_cut_short_anywhere_can_be_repeated(deletions: int) -> None:
    records, blocks = MemoryAgentStore(), FailsAfter()
    extras = (PartKind.SLIDING, PartKind.STATE)
    remember(records, blocks, "al", tokens(600), extras=extras)
    store_blocks(blocks, tokens(1000), extras=extras)  # a branch that has been dropped since
    blocks.left = deletions
    with pytest.raises(CachePersistenceError):
        delete_agent("al", Forgettable(records, blocks, SECRET))
    blocks.left = 100
    delete_agent("al", Forgettable(records, blocks, SECRET))
    assert list(blocks.headers(NAMESPACE)) == []


def test_a_deletion_that_failed_can_be_repeated() -> None:
    records, blocks = MemoryAgentStore(), MemoryBlockStore()
    remember(records, blocks, "al", tokens(300))
    blocks.failing = True
    with pytest.raises(CachePersistenceError):
        delete_agent("al", Forgettable(records, blocks, SECRET))
    assert [record.name for record in records.list()] == ["al"]
    blocks.failing = False
    assert delete_agent("al", Forgettable(records, blocks, SECRET)).blocks == 2


def test_a_tenant_forgets_its_own_agent_alone(stores: Stores) -> None:
    records, blocks = stores
    acme = TenantId("acme")
    remember(records, blocks, "al", tokens(600))
    others = remember(records, blocks, "al", tokens(600), tenant=acme)
    public = set(store_blocks(blocks, tokens(600), tenant=PUBLIC))
    assert delete_agent("al", Forgettable(records, blocks, SECRET)).blocks == 3
    assert held(blocks) == others | public
    assert [record.tenant for record in records.list()] == [acme]
    with pytest.raises(AgentNotFoundError):
        delete_agent("al", Forgettable(records, blocks, SECRET))
    assert delete_agent("al", Forgettable(records, blocks, SECRET), acme).memories == 1
    assert held(blocks) == public
    assert list(records.list()) == []
