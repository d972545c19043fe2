"""What becomes of damage where it cannot be set aside, and of side rooms that are gone."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.blocks import NAMESPACE, make_part, path_in, plant_secret
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.errors import CacheCorruptionError, CachePersistenceError

PART = make_part()
ALICE = AgentId.parse("alice", field="agent")
RECORD = AgentRecord("alice", NAMESPACE, (), 1.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant_secret(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[IndexedBlocks]:
    blocks = IndexedBlocks(root, RecordedTelemetry(), SystemClock())
    yield blocks
    blocks.close()


@pytest.fixture
def damaged(root: Path, store: IndexedBlocks) -> Path:
    """The file of a part that was put, and then damaged."""
    store.put(PART)
    path = path_in(root, NAMESPACE, PART.header.id)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


@pytest.fixture
def no_quarantine(root: Path, store: IndexedBlocks) -> None:
    """Nothing can be moved there: a file has its name."""
    del store  # it makes the folder
    (root / "quarantine").rmdir()
    (root / "quarantine").write_text("not a folder")


def test_a_quarantine_that_was_removed_is_made_again(
    root: Path, store: IndexedBlocks, damaged: Path
) -> None:
    (root / "quarantine").rmdir()
    store.put(PART)
    assert store.get(NAMESPACE, PART.header.id) == PART
    (aside,) = (root / "quarantine").iterdir()
    assert aside.name.startswith(damaged.name)


def test_records_and_blocks_are_written_where_the_folder_for_it_is_gone(
    root: Path, store: IndexedBlocks
) -> None:
    agents = AgentFiles(root, RecordedTelemetry())
    (root / "tmp").rmdir()
    store.put(PART)
    (root / "tmp").rmdir()
    agents.save(ALICE, RECORD)
    assert store.get(NAMESPACE, PART.header.id) == PART
    assert agents.load(ALICE) == RECORD
    assert (root / "tmp").stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("no_quarantine")
def test_what_cannot_be_set_aside_is_removed(store: IndexedBlocks, damaged: Path) -> None:
    store.put(PART)
    assert store.get(NAMESPACE, PART.header.id) == PART
    damaged.write_bytes(b"damaged")
    with pytest.raises(CacheCorruptionError):
        store.get(NAMESPACE, PART.header.id)
    assert not damaged.exists()
    assert not store.committed(NAMESPACE, [PART.header.key])


@pytest.mark.usefixtures("no_quarantine")
def test_a_damaged_part_that_stays_is_never_acknowledged_and_never_returned(
    store: IndexedBlocks, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = damaged.read_bytes()
    unlink = os.unlink

    def refuse(path: Path) -> None:
        if Path(path) == damaged:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(CachePersistenceError, match="damaged"):
        store.put(PART)
    assert damaged.read_bytes() == before
    with pytest.raises(CacheCorruptionError):
        store.get(NAMESPACE, PART.header.id)
    monkeypatch.undo()
    store.put(PART)
    assert store.get(NAMESPACE, PART.header.id) == PART


def test_a_damaged_record_is_removed_where_it_cannot_be_set_aside(root: Path) -> None:
    agents = AgentFiles(root, RecordedTelemetry())
    agents.save(ALICE, RECORD)
    (path,) = (root / "agents").iterdir()
    path.write_bytes(b"damaged")
    (root / "quarantine").rmdir()
    (root / "quarantine").write_text("not a folder")
    assert agents.load(ALICE) is None
    assert not path.exists()
    agents.save(ALICE, RECORD)
    assert agents.load(ALICE) == RECORD
