"""What every agent store does. Each implementation is run through the same tests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.fakes.blocks import SECRET, plant_secret
from tests.fakes.memory_agent_store import MemoryAgentStore
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.ids import Namespace
from semantic.ports.agent_store import AgentStore

ALICE = AgentId.parse("alice", field="agent")
BOB = AgentId.parse("bob", field="agent")
RECORD = AgentRecord(
    name="alice",
    namespace="n",
    branches=(
        Branch((Segment("hello", (1, 2, 3)), Segment(" there", (4,), alias="there"))),
        Branch((Segment("", ()),)),
        Branch(()),
    ),
    updated_at=1234567890.123456,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A store, and how to damage one of its records."""

    store: AgentStore
    damage: Callable[[AgentId], None]


def on_disk(root: Path) -> Candidate:
    def damage(agent: AgentId) -> None:
        path = root / "agents" / f"{SECRET.agent_name(agent.key)}.json"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    plant_secret(root)
    return Candidate(AgentFiles(root, RecordedTelemetry()), damage)


def in_memory(_: Path) -> Candidate:
    store = MemoryAgentStore()
    return Candidate(store, store.damage)


@pytest.fixture(params=[on_disk, in_memory])
def candidate(request: pytest.FixtureRequest, tmp_path: Path) -> Candidate:
    made: Candidate = request.param(tmp_path / "store")
    return made


@pytest.fixture
def store(candidate: Candidate) -> AgentStore:
    return candidate.store


class TestAgentStore:
    def test_unknown_agents_have_no_record(self, store: AgentStore) -> None:
        assert store.load(ALICE) is None

    def test_returns_exactly_what_was_saved(self, store: AgentStore) -> None:
        store.save(ALICE, RECORD)
        assert store.load(ALICE) == RECORD

    def test_the_newest_record_replaces_the_older(self, store: AgentStore) -> None:
        newer = replace(RECORD, branches=(), updated_at=2.0)
        store.save(ALICE, RECORD)
        store.save(ALICE, newer)
        assert store.load(ALICE) == newer

    def test_agents_do_not_see_each_other(self, store: AgentStore) -> None:
        store.save(ALICE, RECORD)
        assert store.load(BOB) is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\0",
            "🦜",
            "\ud83d",
            "\ud83d\ude00",
            '"\\\n\u2028',
            "ÿ\uffff",
            "../..",
        ],
        ids=ascii,
    )
    def test_any_text_survives(self, store: AgentStore, text: str) -> None:
        record = AgentRecord(
            name=text,
            namespace=text,
            branches=(Branch((Segment(text, (0, 2**32 - 1)),)),),
            updated_at=0.0,
        )
        store.save(ALICE, record)
        assert store.load(ALICE) == record

    def test_a_record_that_cannot_be_trusted_is_absent(self, candidate: Candidate) -> None:
        candidate.store.save(ALICE, RECORD)
        candidate.damage(ALICE)
        assert candidate.store.load(ALICE) is None

    def test_a_damaged_record_can_be_saved_again(self, candidate: Candidate) -> None:
        candidate.store.save(ALICE, RECORD)
        candidate.damage(ALICE)
        candidate.store.save(ALICE, RECORD)
        assert candidate.store.load(ALICE) == RECORD

    def test_lists_every_record_and_only_those(self, candidate: Candidate) -> None:
        assert list(candidate.store.list()) == []
        bobs = replace(RECORD, name="bob")
        candidate.store.save(ALICE, RECORD)
        candidate.store.save(BOB, bobs)
        assert sorted(found.name for found in candidate.store.list()) == ["alice", "bob"]
        assert bobs in candidate.store.list()
        candidate.damage(ALICE)
        assert list(candidate.store.list()) == [bobs]

    def test_one_name_may_have_a_record_for_each_of_its_keys(self, store: AgentStore) -> None:
        for namespace in (Namespace("a" * 64), Namespace("b" * 64)):
            store.save(ALICE.within(namespace), replace(RECORD, namespace=namespace))
        assert {found.namespace for found in store.list()} == {"a" * 64, "b" * 64}

    def test_a_deleted_agent_is_unknown_and_the_others_are_not(self, store: AgentStore) -> None:
        store.save(ALICE, RECORD)
        store.save(BOB, RECORD)
        store.delete(ALICE)
        assert store.load(ALICE) is None
        assert store.load(BOB) == RECORD
        assert len(list(store.list())) == 1

    def test_deleting_an_unknown_agent_changes_nothing(self, store: AgentStore) -> None:
        store.save(ALICE, RECORD)
        store.delete(BOB)
        store.delete(BOB)
        assert store.load(ALICE) == RECORD

    def test_a_deleted_agent_can_be_saved_again(self, store: AgentStore) -> None:
        store.save(ALICE, RECORD)
        store.delete(ALICE)
        store.save(ALICE, RECORD)
        assert store.load(ALICE) == RECORD
