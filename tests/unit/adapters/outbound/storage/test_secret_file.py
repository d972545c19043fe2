import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.fakes.blocks import NAMESPACE, make_part, plant_secret
from tests.fakes.faulty_os import FaultyOs, count_calls
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.remembered import remember, store_blocks, tokens

from semantic.adapters.outbound.storage import index_rebuild, secret_file
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.agent_format import FORMAT as AGENT_FORMAT
from semantic.adapters.outbound.storage.block_format import FORMAT as BLOCK_FORMAT
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.domain.errors import CachePersistenceError
from semantic.domain.store_secret import StoreSecret

PART = make_part()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def fill(root: Path) -> None:
    """A store with an agent and its blocks, under the secret of the tests."""
    plant_secret(root)
    blocks = IndexedBlocks(root, RecordedTelemetry(), FixedClock())
    remember(AgentFiles(root, RecordedTelemetry()), blocks, "alice", tokens(300))
    blocks.close()


def everything(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }


def test_a_new_store_gets_a_secret_that_stays(root: Path) -> None:
    made = secret_file.opened(root)
    path = root / "secret.key"
    assert path.read_bytes() == made.value
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert secret_file.opened(root) == secret_file.seen(root) == made
    assert secret_file.opened(root.with_name("another")) != made


def test_a_secret_is_synced_before_it_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = FaultyOs(root, monkeypatch)
    secret_file.opened(root)
    calls = [call for call in faults.calls if call[0] not in ("open", "write")]
    assert calls[-2:] == [("sync", "secret.key.new"), ("rename", "secret.key")]


def test_a_secret_that_could_not_be_made_is_made_the_next_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = FaultyOs(root, monkeypatch)
    calls = count_calls(faults, lambda: secret_file.opened(root.with_name("another")))
    assert calls > 5
    for number in range(calls):
        place = root.with_name(f"store {number}")
        faults.fail(number)
        with pytest.raises(CachePersistenceError):
            secret_file.opened(place)
        faults.heal()
        assert len(secret_file.opened(place).value) == 32
        assert [path.name for path in place.iterdir()] == ["secret.key"]


def test_looking_makes_nothing(root: Path) -> None:
    secret_file.seen(root)
    assert not root.exists()
    root.mkdir()
    assert secret_file.seen(root) != secret_file.seen(root)
    assert list(root.iterdir()) == []


Damage = Callable[[Path], object]


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b""), "32 bytes.*copy of this store"),
        (lambda path: path.write_bytes(bytes(31)), "32 bytes.*copy of this store"),
        (lambda path: path.write_bytes(bytes(33)), "32 bytes.*copy of this store"),
        (lambda path: path.chmod(0o640), "chmod 600"),
        (lambda path: path.chmod(0o604), "chmod 600"),
        (as_folder, "not a file.*copy of this store"),
        (as_link, "not a file.*copy of this store"),
        (as_pipe, "not a file.*copy of this store"),
    ],
)
@pytest.mark.parametrize("use", [secret_file.opened, secret_file.seen])
def test_what_is_no_secret_is_refused_and_left_alone(
    root: Path, use: Callable[[Path], StoreSecret], damage: Damage, said: str
) -> None:
    secret_file.opened(root)
    damage(root / "secret.key")
    before = sorted((path, path.lstat().st_mode) for path in root.iterdir())
    with pytest.raises(CachePersistenceError, match=said):
        use(root)
    assert sorted((path, path.lstat().st_mode) for path in root.iterdir()) == before


@pytest.mark.parametrize("kept", ["blk", "agents"])
@pytest.mark.parametrize("use", [secret_file.opened, secret_file.seen])
def test_a_lost_secret_is_never_replaced(
    root: Path, use: Callable[[Path], StoreSecret], kept: str
) -> None:
    fill(root)
    (root / "secret.key").unlink()
    shutil.rmtree(root / ("agents" if kept == "blk" else "blk"))
    before = everything(root)
    with pytest.raises(CachePersistenceError, match=r"is missing.*copy.*remove blk, agents"):
        use(root)
    assert everything(root) == before


def test_a_folder_that_cannot_be_looked_into_may_hold_something(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "blk").mkdir(parents=True)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CachePersistenceError):
        secret_file.opened(root)
    assert not (root / "secret.key").exists()


def make_former(root: Path) -> None:
    """As a store is that was made before there were secrets."""
    fill(root)
    (root / "secret.key").unlink()
    with closing(sqlite3.connect(root / "index.db")) as index:
        index.execute("PRAGMA user_version = 1")
    for path in [*root.rglob("*.st"), *root.rglob("*.json")]:
        data = path.read_bytes()
        for now, then in ((BLOCK_FORMAT, "semantic-block/2"), (AGENT_FORMAT, "semantic-agent/1")):
            data = data.replace(now.encode(), then.encode())
        path.write_bytes(data)


def test_a_store_from_before_there_were_secrets_becomes_new(root: Path) -> None:
    make_former(root)
    telemetry = RecordedTelemetry()
    blocks = IndexedBlocks(root, telemetry, FixedClock())
    agents = AgentFiles(root, telemetry)
    assert (list(blocks.headers(NAMESPACE)), list(agents.list())) == ([], [])
    blocks.put(PART)
    assert blocks.get(NAMESPACE, PART.header.id) == PART
    blocks.close()
    assert telemetry.names("warning") == []
    assert {path.name for path in (root / "quarantine").iterdir()} == {"blk.0", "agents.0"}


def test_what_is_half_from_before_is_not_set_aside(root: Path) -> None:
    make_former(root)
    path = next(root.rglob("*.st"))
    path.write_bytes(path.read_bytes().replace(b"semantic-block/2", BLOCK_FORMAT.encode()))
    with pytest.raises(CachePersistenceError, match="is missing"):
        secret_file.opened(root)
    assert list((root / "quarantine").iterdir()) == []


def test_a_copy_of_the_folder_is_the_store(root: Path) -> None:
    fill(root)
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    blocks = IndexedBlocks(copy, RecordedTelemetry(), FixedClock())
    assert len(list(blocks.headers(NAMESPACE))) == 2
    assert [one.name for one in AgentFiles(copy, RecordedTelemetry()).list()] == ["alice"]
    assert [gone for step in blocks.sweep() for gone in step] == []
    assert len(list(blocks.headers(NAMESPACE))) == 2
    blocks.close()


def test_under_another_secret_nothing_of_it_is_found(root: Path) -> None:
    fill(root)
    plant_secret(root, StoreSecret(bytes(32)))
    telemetry = RecordedTelemetry()
    assert list(AgentFiles(root, telemetry).list()) == []
    assert telemetry.names() == ["agent_skipped"]


def test_agents_without_blocks_are_not_opened_under_another_secret(root: Path) -> None:
    fill(root)
    for path in (*root.rglob("*.st"), *root.glob("index.db*")):
        path.unlink()
    (root / "agents" / "0.json").write_bytes(b"damaged, it tells nothing")
    plant_secret(root, StoreSecret(bytes(32)))
    before = sorted(root.rglob("*"))
    with pytest.raises(CachePersistenceError, match=r"another store's: put .*copy"):
        AgentFiles(root, RecordedTelemetry())
    assert sorted(root.rglob("*")) == before
    plant_secret(root)
    (record,) = (root / "agents").glob("?" * 10 + "*.json")
    (root / "agents" / "1.json").write_bytes(record.read_bytes())
    assert [one.name for one in AgentFiles(root, RecordedTelemetry()).list()] == ["alice"]


@pytest.mark.parametrize("indexed", [True, False])
def test_under_another_secret_blocks_are_not_taken_for_orphans(
    root: Path, *, indexed: bool
) -> None:
    fill(root)
    plant_secret(root, StoreSecret(bytes(32)))
    if not indexed:
        (root / "index.db").unlink()
    before = sorted(root.rglob("*.st"))
    for _ in range(2):
        with pytest.raises(CachePersistenceError, match=r"another store's: put .*copy"):
            IndexedBlocks(root, RecordedTelemetry(), FixedClock())
    listing = BlockListing(root, RecordedTelemetry())
    with pytest.raises(CachePersistenceError, match="another store's"):
        index_rebuild.rebuild(root, listing)
    assert len(before) == 2
    assert sorted(root.rglob("*.st")) == before
    plant_secret(root)
    blocks = IndexedBlocks(root, RecordedTelemetry(), FixedClock())
    assert len(list(blocks.headers(NAMESPACE))) == 2
    blocks.close()


def test_a_block_that_lies_elsewhere_does_not_make_a_secret_anothers(root: Path) -> None:
    fill(root)
    first, other = sorted(root.rglob("*.st"))
    stray = root / "blk" / ("0" * 12) / "00" / first.name
    stray.parent.mkdir(parents=True)
    first.rename(stray)
    assert index_rebuild.rebuild(root, BlockListing(root, RecordedTelemetry())) == 1
    blocks = IndexedBlocks(root, RecordedTelemetry(), FixedClock())
    for _ in blocks.sweep():
        pass
    assert list(root.rglob("*.st")) == [other]
    blocks.close()


def test_names_tell_nothing_to_who_does_not_know_the_secret(root: Path) -> None:
    one, other = root / "one", root / "other"
    for place in (one, other):
        blocks = IndexedBlocks(place, RecordedTelemetry(), FixedClock())
        remember(AgentFiles(place, RecordedTelemetry()), blocks, "alice", tokens(3))
        store_blocks(blocks, tokens(3))
        blocks.close()
    names = [
        {path.name for folder in ("agents", "blk") for path in (place / folder).iterdir()}
        for place in (one, other)
    ]
    assert len(names[0]) == len(names[1]) == 2
    assert not names[0] & names[1]
    assert not any(NAMESPACE.startswith(name) for name in names[0] | names[1])
