"""What every keeper of API keys does. Each implementation is run through the same tests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.fakes.memory_api_keys import MemoryApiKeys

from semantic.adapters.outbound.storage.key_file import FILE, KeyFile
from semantic.domain.api_key import ApiKey, KeyLimits, digest_of
from semantic.domain.errors import CachePersistenceError, InvalidRequestError, KeyNotFoundError
from semantic.domain.ids import KeyName, TenantId
from semantic.ports.api_keys import ApiKeys

ALICE = ApiKey(KeyName("alice"), digest_of("a"), 1.5)
BOB = ApiKey(KeyName("bob"), digest_of("b"), 2.0, TenantId("team"), KeyLimits(60, 0))


@dataclass(frozen=True, slots=True)
class Candidate:
    keys: ApiKeys
    damage: Callable[[], None]


def on_disk(root: Path) -> Candidate:
    def damage() -> None:
        data = bytearray((root / FILE).read_bytes())
        data[len(data) // 2] ^= 1
        (root / FILE).write_bytes(data)

    return Candidate(KeyFile(root), damage)


def in_memory(_: Path) -> Candidate:
    keys = MemoryApiKeys()

    def damage() -> None:
        keys.damaged = True

    return Candidate(keys, damage)


@pytest.fixture(params=[on_disk, in_memory])
def candidate(request: pytest.FixtureRequest, tmp_path: Path) -> Candidate:
    made: Candidate = request.param(tmp_path / "store")
    return made


def test_there_are_none_at_first(candidate: Candidate) -> None:
    assert candidate.keys.all() == ()


def test_keys_come_back_as_they_were_kept(candidate: Candidate) -> None:
    candidate.keys.add(ALICE)
    candidate.keys.add(BOB)
    assert candidate.keys.all() == (ALICE, BOB)


def test_a_name_is_given_once(candidate: Candidate) -> None:
    candidate.keys.add(ALICE)
    with pytest.raises(InvalidRequestError, match="alice") as refused:
        candidate.keys.add(replace(BOB, name=ALICE.name))
    assert refused.value.field == "name"
    assert candidate.keys.all() == (ALICE,)


def test_a_removed_key_is_gone_and_its_name_free(candidate: Candidate) -> None:
    candidate.keys.add(ALICE)
    candidate.keys.add(BOB)
    assert candidate.keys.remove(ALICE.name) == ALICE
    assert candidate.keys.all() == (BOB,)
    candidate.keys.add(ALICE)
    assert candidate.keys.all() == (BOB, ALICE)


def test_what_is_not_there_cannot_be_removed(candidate: Candidate) -> None:
    with pytest.raises(KeyNotFoundError, match="alice"):
        candidate.keys.remove(ALICE.name)


def test_damage_is_an_error_and_not_an_empty_list(candidate: Candidate) -> None:
    candidate.keys.add(ALICE)
    candidate.damage()
    for attempt in (
        candidate.keys.all,
        lambda: candidate.keys.add(BOB),
        lambda: candidate.keys.remove(ALICE.name),
    ):
        with pytest.raises(CachePersistenceError):
            attempt()
