"""What every response store does. Each implementation is run through the same tests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.fakes.blocks import SECRET, plant_secret
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_response_store import MemoryResponseStore
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.response_files import ResponseFiles, ResponseLimits
from semantic.domain.ids import DEFAULT_TENANT, TenantId
from semantic.domain.stored_response import ResponseId, StoredResponse
from semantic.ports.response_store import ResponseStore

ROOM = 4
"""Responses that each candidate keeps."""

OTHER = TenantId("other")
FIRST = StoredResponse(
    id=ResponseId("resp_1"),
    created_at=1234567890.25,
    asked='[{"type":"message"}]',
    answered='{"id":"resp_1"}',
    first=ResponseId("resp_1"),
)
SECOND = replace(FIRST, id=ResponseId("resp_2"), previous=FIRST.id)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A store, and how to damage one of its responses."""

    store: ResponseStore
    damage: Callable[[StoredResponse], None]


def on_disk(root: Path) -> Candidate:
    def damage(response: StoredResponse) -> None:
        name = SECRET.response_name(response.tenant, response.id)
        path = root / "responses" / f"{name}.json"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    plant_secret(root)
    limits = ResponseLimits(max_count=ROOM, max_bytes=1 << 20, max_age_s=60.0)
    return Candidate(ResponseFiles(root, limits, FixedClock(), RecordedTelemetry()), damage)


def in_memory(_: Path) -> Candidate:
    store = MemoryResponseStore(ROOM)
    return Candidate(store, store.damage)


@pytest.fixture(params=[on_disk, in_memory])
def candidate(request: pytest.FixtureRequest, tmp_path: Path) -> Candidate:
    made: Candidate = request.param(tmp_path / "store")
    return made


@pytest.fixture
def store(candidate: Candidate) -> ResponseStore:
    return candidate.store


class TestResponseStore:
    def test_unknown_responses_are_not_there(self, store: ResponseStore) -> None:
        assert store.load(DEFAULT_TENANT, FIRST.id) is None

    def test_returns_exactly_what_was_saved(self, store: ResponseStore) -> None:
        store.save(FIRST)
        store.save(SECOND)
        assert store.load(DEFAULT_TENANT, FIRST.id) == FIRST
        assert store.load(DEFAULT_TENANT, SECOND.id) == SECOND

    @pytest.mark.parametrize("text", ["", "\0", "🦜", "\ud83d", '"\\\n\u2028', "../.."], ids=ascii)
    def test_any_text_survives(self, store: ResponseStore, text: str) -> None:
        response = replace(FIRST, asked=text, answered=text)
        store.save(response)
        assert store.load(DEFAULT_TENANT, FIRST.id) == response

    def test_the_newest_replaces_the_older(self, store: ResponseStore) -> None:
        newer = replace(FIRST, answered="{}")
        store.save(FIRST)
        store.save(newer)
        assert store.load(DEFAULT_TENANT, FIRST.id) == newer

    def test_tenants_do_not_see_each_others(self, store: ResponseStore) -> None:
        theirs = replace(FIRST, tenant=OTHER, answered='"theirs"')
        store.save(FIRST)
        assert store.load(OTHER, FIRST.id) is None
        assert not store.delete(OTHER, FIRST.id)
        store.save(theirs)
        assert store.load(DEFAULT_TENANT, FIRST.id) == FIRST
        assert store.load(OTHER, FIRST.id) == theirs

    def test_one_that_cannot_be_trusted_is_not_there(self, candidate: Candidate) -> None:
        candidate.store.save(FIRST)
        candidate.damage(FIRST)
        assert candidate.store.load(DEFAULT_TENANT, FIRST.id) is None
        candidate.store.save(FIRST)
        assert candidate.store.load(DEFAULT_TENANT, FIRST.id) == FIRST

    def test_a_deleted_one_is_gone_and_the_others_are_not(self, store: ResponseStore) -> None:
        store.save(FIRST)
        store.save(SECOND)
        assert store.delete(DEFAULT_TENANT, FIRST.id)
        assert not store.delete(DEFAULT_TENANT, FIRST.id)
        assert store.load(DEFAULT_TENANT, FIRST.id) is None
        assert store.load(DEFAULT_TENANT, SECOND.id) == SECOND

    def test_what_was_not_used_for_longest_goes_first(self, store: ResponseStore) -> None:
        made = [replace(FIRST, id=ResponseId(f"resp_{number}")) for number in range(ROOM + 2)]
        for response in made[:ROOM]:
            store.save(response)
        store.load(DEFAULT_TENANT, made[0].id)
        for response in made[ROOM:]:
            store.save(response)
        kept = [response for response in made if store.load(DEFAULT_TENANT, response.id)]
        assert kept == [made[0], *made[3:]]
