import errno
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.blocks import SECRET, plant_secret
from tests.fakes.mutants import mutants
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.agent_format import StoredAgent, decode, encode
from semantic.adapters.outbound.storage.agent_listing import MAX_FILE_BYTES, AgentListing
from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)

ALICE = AgentId.parse("alice", field="agent")
BOB = AgentId.parse("bob", field="agent")
RECORD = AgentRecord(
    name="alice",
    namespace="n",
    branches=(Branch((Segment("Grüße 🦜", tuple(range(500))), Segment("", ()))),),
    updated_at=12.5,
)
STORED = StoredAgent(ALICE.key, RECORD)
MUTANTS_OF_EACH_KIND = 45

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
segments = st.builds(
    Segment,
    texts,
    st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple),
    st.none() | texts,
)
branches = st.builds(Branch, st.lists(segments, max_size=3).map(tuple))
records = st.builds(
    AgentRecord,
    name=texts,
    namespace=texts,
    branches=st.lists(branches, max_size=3).map(tuple),
    updated_at=st.floats(allow_nan=False),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant_secret(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def telemetry() -> RecordedTelemetry:
    return RecordedTelemetry()


@pytest.fixture
def store(root: Path, telemetry: RecordedTelemetry) -> AgentFiles:
    return AgentFiles(root, telemetry)


def path_of(root: Path, agent: AgentId = ALICE) -> Path:
    return root / "agents" / f"{SECRET.agent_name(agent.key)}.json"


def signed(record: bytes) -> bytes:
    digest = xxhash.xxh3_128_hexdigest(record).encode()
    return b'{"format":"semantic-agent/2","xxh3_128":"%s","record":%s}\n' % (digest, record)


@given(record=records)
@settings(deadline=None, derandomize=True)
def test_every_record_comes_back_as_it_was(record: AgentRecord) -> None:
    assert decode(encode(StoredAgent(ALICE.key, record))) == StoredAgent(ALICE.key, record)


def test_a_file_is_json_that_names_its_agent(root: Path, store: AgentFiles) -> None:
    store.save(ALICE, RECORD)
    found = json.loads(path_of(root).read_text())
    assert found["record"]["name"] == "alice"
    assert found["record"]["key"] == ALICE.key


def test_the_bytes_of_a_format_stay_as_they_are() -> None:
    small = StoredAgent(ALICE.key, replace(RECORD, branches=(Branch((Segment("é\n", (1, 2)),)),)))
    record = (
        f'{{"key":"{ALICE.key}","name":"alice","namespace":"n","tenant":"default","updated_at":12.5,'
        '"branches":[[{"text":"é\\n","ids":[1,2]}]]}'
    )
    assert encode(small) == signed(record.encode())


def test_everything_is_for_the_owner_alone(root: Path, store: AgentFiles) -> None:
    store.save(ALICE, RECORD)
    for path in (root, *root.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_no_name_becomes_a_path(root: Path, store: AgentFiles) -> None:
    for name in ("Bob", "bob", "a/b", "C:\\x", "~root", "💾"):
        agent = AgentId.parse(name, field="agent")
        store.save(agent, replace(RECORD, name=name))
    names = [path.stem for path in (root / "agents").iterdir()]
    assert len(names) == 6
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in names)


def test_no_mutant_of_a_file_is_taken_for_the_record(
    root: Path, store: AgentFiles, telemetry: RecordedTelemetry
) -> None:
    other = encode(StoredAgent(BOB.key, replace(RECORD, name="bob  ")))
    store.save(ALICE, RECORD)
    path = path_of(root)
    data = path.read_bytes()
    changed = 0
    for kind, mutant in mutants(data, other, each=MUTANTS_OF_EACH_KIND, seed=20261123):
        path.write_bytes(mutant)
        loaded = store.load(ALICE)
        assert loaded == (RECORD if mutant == data else None), kind
        assert path.exists() == (mutant == data), kind
        changed += mutant != data
    assert telemetry.names("warning") == ["agent_set_aside"] * changed
    assert changed > 6 * MUTANTS_OF_EACH_KIND


def test_the_record_of_another_agent_is_set_aside(
    root: Path, store: AgentFiles, telemetry: RecordedTelemetry
) -> None:
    store.save(BOB, replace(RECORD, name="bob"))
    path_of(root, BOB).rename(path_of(root))
    assert store.load(ALICE) is None
    assert not path_of(root).exists()
    assert telemetry.names() == ["agent_set_aside"]


def test_a_record_without_aliases_says_nothing_of_them() -> None:
    assert b"alias" not in encode(STORED)


def test_another_format_is_incompatible() -> None:
    with pytest.raises(IncompatibleCacheError):
        decode(encode(STORED).replace(b"semantic-agent/2", b"semantic-agent/1"))


@pytest.mark.parametrize(
    "change",
    [
        {"key": 1},
        {"name": None},
        {"namespace": []},
        {"updated_at": "1"},
        {"branches": {}},
        {"branches": [1]},
        {"branches": [[1]]},
        {"branches": [[{"text": 1, "ids": []}]]},
        {"branches": [[{"text": ""}]]},
        {"branches": [[{"text": "", "ids": [1.5]}]]},
        {"branches": [[{"text": "", "ids": [True]}]]},
        {"branches": [[{"text": "", "ids": 1}]]},
    ],
    ids=str,
)
def test_signed_but_strange_records_are_damage(change: dict[str, Any]) -> None:
    found = json.loads(encode(STORED))["record"] | change
    with pytest.raises(CacheCorruptionError, match="understood"):
        decode(signed(json.dumps(found).encode()))


@pytest.mark.parametrize("record", [b"", b"{}", b"[]", b"1", b"\xff", b"[" * 100_000], ids=len)
def test_signed_bytes_that_are_no_record_are_damage(record: bytes) -> None:
    with pytest.raises(CacheCorruptionError):
        decode(signed(record))


def test_a_record_that_cannot_be_read_is_left_in_place(
    root: Path, store: AgentFiles, telemetry: RecordedTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(ALICE, RECORD)

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path), flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(CachePersistenceError, match="could not be read"):
            store.load(ALICE)
    assert telemetry.names() == ["agent_unreadable"]
    assert path_of(root).exists()
    assert store.load(ALICE) == RECORD


def test_a_huge_file_is_set_aside_without_reading_it(root: Path, store: AgentFiles) -> None:
    store.save(ALICE, RECORD)
    with path_of(root).open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert store.load(ALICE) is None
    assert not path_of(root).exists()


def test_a_folder_in_place_of_a_record_is_set_aside(root: Path, store: AgentFiles) -> None:
    path_of(root).mkdir()
    assert store.load(ALICE) is None
    store.save(ALICE, RECORD)
    assert store.load(ALICE) == RECORD


def test_a_folder_that_is_never_looked_at_stops_a_save(root: Path, store: AgentFiles) -> None:
    path_of(root).mkdir()
    with pytest.raises(CachePersistenceError):
        store.save(ALICE, RECORD)


def test_opening_sweeps_only_its_own_unfinished_files(root: Path, store: AgentFiles) -> None:
    store.save(ALICE, RECORD)
    for name in ("agent-1-1", "block-1-1"):
        (root / "tmp" / name).touch()
    AgentFiles(root, RecordedTelemetry())
    assert [path.name for path in (root / "tmp").iterdir()] == ["block-1-1"]


def test_what_is_listed_is_only_looked_at(root: Path, telemetry: RecordedTelemetry) -> None:
    AgentFiles(root, telemetry).save(ALICE, RECORD)
    path_of(root, BOB).write_bytes(b"damaged")
    (root / "tmp" / "agent-1-0").write_bytes(b"a server is writing this")
    before = sorted(root.rglob("*"))
    assert list(AgentListing(root, telemetry).list()) == [RECORD]
    assert sorted(root.rglob("*")) == before
    assert telemetry.names() == ["agent_skipped"]


def test_a_store_that_is_not_there_lists_nothing_and_stays_away(
    tmp_path: Path, telemetry: RecordedTelemetry
) -> None:
    assert list(AgentListing(tmp_path / "none", telemetry).list()) == []
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_read_is_reported(
    root: Path, telemetry: RecordedTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = AgentFiles(root, telemetry)

    def refuse(_: object) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "listdir", refuse)
    assert list(store.list()) == []
    assert telemetry.names() == ["agents_unreadable"]


def test_a_record_that_cannot_be_removed_is_an_error_of_the_store(
    root: Path, store: AgentFiles
) -> None:
    path_of(root).mkdir()
    with pytest.raises(CachePersistenceError, match="could not be removed"):
        store.delete(ALICE)
