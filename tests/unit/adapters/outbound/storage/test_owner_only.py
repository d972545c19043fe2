"""A store that others could read is closed to them when it is opened to be written."""

import stat
from pathlib import Path

import pytest
from tests.fakes.blocks import make_part, plant_secret
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.agent_listing import AgentListing
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.adapters.outbound.system.system_clock import SystemClock

FOLDERS = ("", "blk", "agents", "tmp", "quarantine")
FILES = ("index.db", "store.lock", "server.json")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store, all of which others may read, but for the secret."""
    root = tmp_path / "store"
    plant_secret(root)
    with StoreLock(root):
        blocks = IndexedBlocks(root, RecordedTelemetry(), SystemClock())
        blocks.put(make_part())
        AgentFiles(root, RecordedTelemetry())
        blocks.close()
    (root / "server.json").write_text("{}")
    for name in FOLDERS:
        (root / name).chmod(0o755)
    for name in FILES:
        (root / name).chmod(0o644)
    return root


@pytest.mark.parametrize("opened", [BlockFiles, AgentFiles])
def test_it_is_closed_when_it_is_opened(root: Path, opened: type[BlockFiles | AgentFiles]) -> None:
    telemetry = RecordedTelemetry()
    opened(root, telemetry)
    assert {mode(root / name) for name in FOLDERS} == {0o700}
    assert {mode(root / name) for name in FILES} == {0o600}
    (event,) = telemetry.events
    assert (event.level, event.fields) == ("info", {"entries": len(FOLDERS) + len(FILES)})
    opened(root, telemetry)
    assert len(telemetry.events) == 1


def test_what_lies_behind_a_link_is_not_touched(root: Path, tmp_path: Path) -> None:
    behind = tmp_path / "behind"
    behind.mkdir(mode=0o755)
    (root / "quarantine").rmdir()
    (root / "quarantine").symlink_to(behind)
    BlockFiles(root, RecordedTelemetry())
    assert mode(behind) == 0o755


def test_a_store_that_is_itself_reached_by_a_link_is_closed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    BlockFiles(tmp_path / "link", RecordedTelemetry())
    assert mode(root) == 0o700


def test_looking_changes_nothing(root: Path) -> None:
    list(AgentListing(root, RecordedTelemetry()).list())
    assert mode(root) == 0o755
