import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.blocks import SECRET, plant_secret
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.mutants import mutants
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.response_files import ResponseFiles, ResponseLimits
from semantic.adapters.outbound.storage.response_format import decode, encode
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import DEFAULT_TENANT, TenantId
from semantic.domain.stored_response import ResponseId, StoredResponse

FIRST = StoredResponse(
    id=ResponseId("resp_1"),
    created_at=12.5,
    asked='["Grüße 🦜"]',
    answered="{}",
    first=ResponseId("resp_1"),
)
SIZE = len(encode(FIRST))
DAY_S = 86400.0
LIMITS = ResponseLimits(max_count=100, max_bytes=SIZE * 10, max_age_s=30 * DAY_S)
MUTANTS_OF_EACH_KIND = 45

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
responses = st.builds(
    StoredResponse,
    id=texts.map(ResponseId),
    created_at=st.floats(allow_nan=False),
    asked=texts,
    answered=texts,
    first=texts.map(ResponseId),
    previous=st.none() | texts.map(ResponseId),
    tenant=st.sampled_from([DEFAULT_TENANT, TenantId("other")]),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant_secret(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def telemetry() -> RecordedTelemetry:
    return RecordedTelemetry()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(root: Path, clock: FixedClock, telemetry: RecordedTelemetry) -> ResponseFiles:
    return ResponseFiles(root, LIMITS, clock, telemetry)


def path_of(root: Path, response: StoredResponse = FIRST) -> Path:
    return root / "responses" / f"{SECRET.response_name(response.tenant, response.id)}.json"


def numbered(number: int) -> StoredResponse:
    return replace(FIRST, id=ResponseId(f"resp_{number}"))


def there(root: Path, count: int) -> list[int]:
    """Which of the first so many have a file."""
    return [number for number in range(count) if path_of(root, numbered(number)).exists()]


@given(response=responses)
@settings(deadline=None, derandomize=True)
def test_every_response_comes_back_as_it_was(response: StoredResponse) -> None:
    assert decode(encode(response)) == response


def test_a_file_is_json(root: Path, store: ResponseFiles) -> None:
    store.save(FIRST)
    found = json.loads(path_of(root).read_text())
    assert found["format"] == "semantic-response/1"
    assert found["response"]["id"] == "resp_1"


def test_everything_is_for_the_owner_alone(root: Path, store: ResponseFiles) -> None:
    store.save(FIRST)
    for path in (root, *root.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_no_id_becomes_a_path(root: Path, store: ResponseFiles) -> None:
    for name in ("../../up", "a/b", "~root", "💾"):
        store.save(replace(FIRST, id=ResponseId(name)))
    names = [path.stem for path in (root / "responses").iterdir()]
    assert len(names) == 4
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in names)


def test_no_mutant_of_a_file_is_taken_for_the_response(root: Path, store: ResponseFiles) -> None:
    whole, other = encode(FIRST), encode(numbered(2))
    changed = 0
    for kind, mutant in mutants(whole, other, each=MUTANTS_OF_EACH_KIND, seed=7):
        if mutant == whole:
            continue
        path_of(root).write_bytes(mutant)
        assert store.load(DEFAULT_TENANT, FIRST.id) is None, kind
        changed += 1
    assert changed > MUTANTS_OF_EACH_KIND


def test_a_damaged_file_is_set_aside_and_reported(
    root: Path, store: ResponseFiles, telemetry: RecordedTelemetry
) -> None:
    store.save(FIRST)
    path_of(root).write_bytes(b"{}")
    assert store.load(DEFAULT_TENANT, FIRST.id) is None
    assert telemetry.names("warning") == ["response_set_aside"]
    assert len(list((root / "quarantine").iterdir())) == 1
    assert not path_of(root).exists()


def test_another_responses_file_is_not_taken_for_it(root: Path, store: ResponseFiles) -> None:
    store.save(FIRST)
    path_of(root).rename(path_of(root, numbered(2)))
    assert store.load(DEFAULT_TENANT, ResponseId("resp_2")) is None


def test_what_is_kept_survives_a_restart(
    root: Path, store: ResponseFiles, clock: FixedClock, telemetry: RecordedTelemetry
) -> None:
    store.save(FIRST)
    (root / "tmp" / "response-1-1").write_bytes(b"half")
    again = ResponseFiles(root, LIMITS, clock, telemetry)
    assert again.load(DEFAULT_TENANT, FIRST.id) == FIRST
    assert list((root / "tmp").iterdir()) == []


def test_bytes_are_bounded(root: Path, store: ResponseFiles) -> None:
    for number in range(13):
        store.save(numbered(number))
    assert sum(path.stat().st_size for path in (root / "responses").iterdir()) <= LIMITS.max_bytes
    assert there(root, 13)[0] > 0
    assert there(root, 13)[-1] == 12


def test_one_that_is_larger_than_all_may_be_removes_no_other(
    root: Path, store: ResponseFiles
) -> None:
    store.save(FIRST)
    with pytest.raises(CachePersistenceError):
        store.save(replace(numbered(2), answered="x" * LIMITS.max_bytes))
    assert store.load(DEFAULT_TENANT, FIRST.id) == FIRST
    assert there(root, 3) == [1]


def test_saving_one_again_takes_no_more_room(root: Path, store: ResponseFiles) -> None:
    for _ in range(20):
        store.save(FIRST)
    for number in range(2, 10):
        store.save(numbered(number))
    assert there(root, 10) == list(range(1, 10))


def test_what_was_deleted_takes_no_room(root: Path, store: ResponseFiles) -> None:
    for number in range(9):
        store.save(numbered(number))
    for number in range(1, 9):
        assert store.delete(DEFAULT_TENANT, ResponseId(f"resp_{number}"))
    for number in range(10, 18):
        store.save(numbered(number))
    assert there(root, 1) == [0]


def test_what_is_not_used_for_long_goes(
    root: Path, store: ResponseFiles, clock: FixedClock
) -> None:
    store.save(numbered(0))
    store.save(numbered(1))
    clock.now += 20 * DAY_S
    store.load(DEFAULT_TENANT, ResponseId("resp_0"))
    clock.now += 20 * DAY_S
    store.save(numbered(2))
    assert there(root, 3) == [0, 2]


def test_use_is_known_after_a_restart(
    root: Path, store: ResponseFiles, clock: FixedClock, telemetry: RecordedTelemetry
) -> None:
    for number in range(3):
        store.save(numbered(number))
        clock.now += DAY_S
    store.load(DEFAULT_TENANT, ResponseId("resp_0"))
    few = replace(LIMITS, max_count=2)
    ResponseFiles(root, few, clock, telemetry)
    assert there(root, 3) == [0, 2]


def test_the_use_of_a_file_is_not_noted_at_every_turn(
    root: Path, store: ResponseFiles, clock: FixedClock
) -> None:
    store.save(FIRST)
    saved = path_of(root).stat().st_mtime
    clock.now += 60.0
    store.load(DEFAULT_TENANT, FIRST.id)
    assert path_of(root).stat().st_mtime == saved


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(root: Path, store: ResponseFiles) -> None:
    (root / "tmp").chmod(0o500)
    with pytest.raises(CachePersistenceError):
        store.save(FIRST)


def test_a_file_in_the_folders_place_is_told(root: Path, telemetry: RecordedTelemetry) -> None:
    (root / "responses").write_bytes(b"")
    with pytest.raises(CachePersistenceError):
        ResponseFiles(root, LIMITS, FixedClock(), telemetry)


def test_a_folder_in_a_files_place_costs_only_that_response(
    root: Path, store: ResponseFiles
) -> None:
    path_of(root).mkdir()
    assert store.load(DEFAULT_TENANT, FIRST.id) is None
    store.save(FIRST)
    assert store.load(DEFAULT_TENANT, FIRST.id) == FIRST
