import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from tests.fakes.blocks import (
    NAMESPACE,
    OTHER_NAMESPACE,
    folder_of,
    make_part,
    path_in,
    plant_secret,
)
from tests.fakes.faulty_os import FaultyOs, count_calls
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage import index_rebuild
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_index import BlockIndex
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.block import PartId, PartKind
from semantic.domain.errors import CacheCorruptionError, CachePersistenceError
from semantic.domain.ids import BlockKey, Namespace

PART = make_part()
ID = PART.header.id
CHILD = make_part((4, 5), parent=PART.header, kind=PartKind.TAIL)
STATE = make_part(kind=PartKind.STATE)
STRANGER = make_part(namespace=OTHER_NAMESPACE)
ALL = (PART, STATE, CHILD, STRANGER)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant_secret(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def telemetry() -> RecordedTelemetry:
    return RecordedTelemetry()


@pytest.fixture
def opened(root: Path, telemetry: RecordedTelemetry) -> Iterator[Callable[[], IndexedBlocks]]:
    """Opens the store, after closing it if it was open."""
    stores: list[IndexedBlocks] = []

    def reopen() -> IndexedBlocks:
        for store in stores:
            store.close()
        stores[:] = [IndexedBlocks(root, telemetry, FixedClock())]
        return stores[0]

    yield reopen
    for store in stores:
        store.close()


Opened = Callable[[], IndexedBlocks]


def path_of(root: Path, part: PartId = ID) -> Path:
    return path_in(root, NAMESPACE, part)


def listed(store: IndexedBlocks) -> set[PartId]:
    return {header.id for header in store.headers(NAMESPACE)}


def swept(store: IndexedBlocks) -> set[PartId]:
    return {part for step in store.sweep() for part in step}


REALLY_OPEN = RegularFile.__init__


def unreadable(file: RegularFile, path: Path) -> None:
    if path.name != "secret.key":
        raise AssertionError("a file was opened")
    REALLY_OPEN(file, path)


def test_the_index_is_for_the_owner_alone(root: Path, opened: Opened) -> None:
    opened().put(PART)
    files = [path for path in root.iterdir() if path.name.startswith("index.db")]
    assert len(files) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_start_opens_no_file(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opened().put(*ALL)
    monkeypatch.setattr(RegularFile, "__init__", unreadable)
    store = opened()
    assert set(store.outlines(NAMESPACE)) == {
        part.header.outline for part in ALL if part is not STRANGER
    }
    assert swept(store) == set()


def test_the_index_knows_what_the_files_say(opened: Opened) -> None:
    store = opened()
    store.put(*ALL)
    found = {header.id: header for header in store.headers(NAMESPACE)}
    assert found == {part.header.id: part.header for part in (PART, STATE, CHILD)}
    assert [outline.start for outline in store.outlines(NAMESPACE)] == [0, 0, 3]


def cannot_commit(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So often no row can be removed: the disk is full."""
    left = [times]
    remove = BlockIndex.remove

    def refuse(index: BlockIndex, namespace: Namespace, parts: Iterable[PartId]) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise CachePersistenceError("database or disk is full")
        remove(index, namespace, parts)

    monkeypatch.setattr(BlockIndex, "remove", refuse)


def test_a_full_disk_can_be_deleted_from(
    root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.put(*ALL)
    cannot_commit(1, monkeypatch)
    store.delete(NAMESPACE, CHILD.header.id)
    assert not path_of(root, CHILD.header.id).exists()
    assert listed(store) == {PART.header.id, STATE.header.id}


def test_rows_that_could_not_go_with_their_files_go_later_and_are_misses_meanwhile(
    root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.put(*ALL)
    cannot_commit(2, monkeypatch)
    with pytest.raises(CachePersistenceError):
        store.delete(NAMESPACE, CHILD.header.id)
    assert not path_of(root, CHILD.header.id).exists()
    cannot_commit(1, monkeypatch)
    assert store.get(NAMESPACE, CHILD.header.id) is None
    store.delete(NAMESPACE, STATE.header.id)
    assert listed(store) == {PART.header.id}
    store.put(CHILD)  # what is written anew is not taken for what went
    store.delete(NAMESPACE, PART.header.id)
    assert store.get(NAMESPACE, CHILD.header.id) == CHILD


def test_a_file_that_stays_keeps_its_row_where_the_index_cannot_commit(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.put(*ALL)

    def refuse(*_: object) -> None:
        raise CachePersistenceError("read-only")

    monkeypatch.setattr(BlockIndex, "remove", refuse)
    monkeypatch.setattr(BlockFiles, "delete", refuse)
    with pytest.raises(CachePersistenceError):
        store.delete(NAMESPACE, CHILD.header.id)
    assert store.get(NAMESPACE, CHILD.header.id) == CHILD


def lost(root: Path) -> None:
    (root / "index.db").unlink()


def cut(root: Path) -> None:
    os.truncate(root / "index.db", 5000)


def overwritten(root: Path) -> None:
    (root / "index.db").write_bytes(b"damaged" * 2000)


def emptied(root: Path) -> None:
    (root / "index.db").write_bytes(b"")


def of_another_version(root: Path) -> None:
    connection = sqlite3.connect(root / "index.db")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


def test_an_index_made_anew_knows_what_was_written_today(root: Path, opened: Opened) -> None:
    """Or the day's budget could be spent once more."""
    store = opened()
    store.put(*ALL)
    written = store.index.written(FixedClock().time())
    assert written > 0
    store.close()
    of_another_version(root)
    store = opened()
    assert store.index.written(FixedClock().time()) == written
    index_rebuild.rebuild(root, store._listing)  # killed: the log lies beside it
    assert opened().index.written(FixedClock().time()) == written


@pytest.mark.parametrize("harm", [lost, cut, overwritten, emptied, of_another_version])
def test_an_index_that_cannot_be_used_is_made_from_the_files(
    root: Path, opened: Opened, telemetry: RecordedTelemetry, harm: Callable[[Path], None]
) -> None:
    store = opened()
    store.put(*ALL)
    store.close()
    harm(root)
    store = opened()
    assert swept(store) == set()
    assert listed(store) == {part.header.id for part in (PART, STATE, CHILD)}
    assert all(store.get(part.header.namespace, part.header.id) == part for part in ALL)
    assert telemetry.names() == ["index_made", "index_made"]
    assert sorted(path.name for path in root.glob("index.db.new*")) == []


def test_a_rebuild_leaves_out_what_cannot_be_trusted(
    root: Path, opened: Opened, telemetry: RecordedTelemetry
) -> None:
    store = opened()
    store.put(PART, CHILD)
    store.close()
    lost(root)
    path_of(root).write_bytes(b"damaged")
    elsewhere = root / "blk" / folder_of(NAMESPACE) / "00"
    elsewhere.mkdir(exist_ok=True)
    path_of(root, CHILD.header.id).rename(elsewhere / path_of(root, CHILD.header.id).name)
    assert listed(opened()) == set()
    assert telemetry.names("warning") == ["block_skipped"] * 2


def test_a_rebuild_that_is_cut_short_is_begun_again(
    root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.put(PART, CHILD)
    store.close()
    lost(root)
    with monkeypatch.context() as patch:
        patch.setattr(index_rebuild, "_AT_ONCE", 1)
        real = BlockIndex.add
        calls: list[int] = []

        def fails_later(*arguments: object) -> None:
            calls.append(1)
            if len(calls) > 1:
                raise KeyboardInterrupt
            real(*arguments)  # type: ignore[arg-type] # as they came

        patch.setattr(BlockIndex, "add", fails_later)
        with pytest.raises(KeyboardInterrupt):
            opened()
    assert listed(opened()) == {ID, CHILD.header.id}


def test_without_its_file_a_part_is_a_miss_and_known_no_more(root: Path, opened: Opened) -> None:
    store = opened()
    store.put(PART, CHILD)
    path_of(root).unlink()
    assert store.get(NAMESPACE, ID) is None
    assert listed(store) == {CHILD.header.id}


def test_what_is_set_aside_is_known_no_more(root: Path, opened: Opened) -> None:
    store = opened()
    store.put(PART)
    path_of(root).write_bytes(b"damaged")
    with pytest.raises(CacheCorruptionError):
        store.get(NAMESPACE, ID)
    assert listed(store) == set()


class TestSweep:
    def test_files_without_a_row_go(
        self, root: Path, opened: Opened, telemetry: RecordedTelemetry
    ) -> None:
        store = opened()
        store.put(PART)
        BlockFiles(root, RecordedTelemetry()).put(CHILD, STRANGER)
        path_of(root).with_name("notes.txt").touch()
        assert swept(store) == set()
        assert [path.name for path in (root / "blk").rglob("*.st")] == [path_of(root).name]
        assert path_of(root).with_name("notes.txt").exists()
        assert telemetry.names() == ["index_made", "orphans_swept"]

    def test_rows_without_a_file_go_and_are_told(self, root: Path, opened: Opened) -> None:
        store = opened()
        store.put(*ALL)
        path_of(root, STATE.header.id).unlink()
        path_of(root, CHILD.header.id).unlink()
        assert swept(store) == {STATE.header.id, CHILD.header.id}
        assert listed(store) == {ID}
        assert swept(store) == set()

    def test_a_namespace_whose_folder_is_gone_is_swept(self, root: Path, opened: Opened) -> None:
        store = opened()
        store.put(PART)
        (root / "blk").rename(root / "elsewhere")
        assert swept(store) == {ID}

    def test_a_folder_that_cannot_be_listed_is_left_alone(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = opened()
        store.put(PART)

        def refuse(path: Path) -> list[str]:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", refuse)
            assert swept(store) == set()
        assert listed(store) == {ID}


class TestCrash:
    """Between any two steps a process may end."""

    def test_between_file_and_row_nothing_durable_is_lost(
        self, root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = opened()
        store.put(PART)
        with monkeypatch.context() as patch:
            patch.setattr(store.index, "add", killed)
            patch.setattr(BlockFiles, "delete", lambda *_: None)
            with pytest.raises(Killed):
                store.put(CHILD)
        assert path_of(root, CHILD.header.id).exists()
        store = opened()
        assert listed(store) == {ID}
        assert swept(store) == set()
        assert not path_of(root, CHILD.header.id).exists()
        store.put(CHILD)
        assert listed(store) == {ID, CHILD.header.id}

    def test_between_row_and_file_what_is_deleted_does_not_come_back(
        self, root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = opened()
        store.put(PART, CHILD)
        with monkeypatch.context() as patch:
            patch.setattr(BlockFiles, "delete", killed)
            with pytest.raises(Killed):
                store.delete(NAMESPACE, CHILD.header.id)
        assert path_of(root, CHILD.header.id).exists()
        store = opened()
        assert listed(store) == {ID}
        assert swept(store) == set()
        assert not path_of(root, CHILD.header.id).exists()


class Killed(BaseException):
    pass


def killed(*_: object) -> None:
    raise Killed


def test_a_put_that_the_index_refuses_leaves_nothing_behind(
    root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.put(PART)

    def refuse(*_: object) -> None:
        raise CachePersistenceError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store.index, "add", refuse)
        with pytest.raises(CachePersistenceError):
            store.put(PART, CHILD)
    assert store.get(NAMESPACE, ID) == PART
    assert not path_of(root, CHILD.header.id).exists()


def test_what_cannot_be_removed_is_still_known(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.put(*ALL)
    real = Path.unlink

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        if path.name.startswith(STATE.header.key) and ".state." in path.name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real(path, missing_ok=missing_ok)

    names = [part.header.id for part in (CHILD, STATE, PART)]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(CachePersistenceError):
            store.delete(NAMESPACE, *names)
    assert listed(store) == {STATE.header.id}
    assert swept(store) == set()
    store.delete(NAMESPACE, *names)
    assert list(store.headers(NAMESPACE)) == []


def test_a_failure_anywhere_leaves_all_of_a_put_or_nothing(
    root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    faults = FaultyOs(root, monkeypatch)
    names = {PART.header.id, CHILD.header.id}
    calls = count_calls(faults, lambda: store.put(PART, CHILD))
    store.delete(NAMESPACE, *names)
    for number in range(calls):
        faults.fail(number)
        try:
            store.put(PART, CHILD)
        except CachePersistenceError:
            assert listed(store) == set()
            assert list((root / "blk").rglob("*.st")) == []
        else:
            assert listed(store) == names
            store.delete(NAMESPACE, *names)
        faults.heal()


def test_folders_are_synced_once_for_several_parts(
    root: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    store.put(PART)
    faults = FaultyOs(root, monkeypatch)
    parts = [make_part(kind=kind) for kind in PartKind]
    store.put(*parts)
    folder = str(path_of(root).parent.relative_to(root))
    calls = [name for name, path in faults.calls if path == folder and name == "sync"]
    # Once for what is there already, once for all that is new.
    assert len(calls) == 2


def test_what_is_written_is_counted_by_the_day(root: Path, opened: Opened) -> None:
    store = opened()
    now = FixedClock().time()
    store.put(PART)
    store.put(PART, CHILD)
    sizes = [path.stat().st_size for path in (root / "blk").rglob("*.st")]
    assert store.index.written(now) == sum(sizes)
    assert store.index.written(now + 86400) == 0
    assert opened().index.written(now) == sum(sizes)


WRITER = """
import sys
from itertools import count
from pathlib import Path
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from tests.fakes.blocks import NAMESPACE, make_part
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from semantic.domain.block import PartKind

store = IndexedBlocks(Path(sys.argv[1]), RecordedTelemetry(), FixedClock())
for number in count(int(sys.argv[2])):
    parent = make_part((number,) * 64)
    tail = make_part((number,), parent=parent.header, kind=PartKind.TAIL)
    store.put(parent, tail, make_part((number,) * 64, kind=PartKind.STATE))
    print(parent.header.key, tail.header.key, flush=True)
    if number % 3 == 0:
        store.delete(NAMESPACE, tail.header.id)
        print("-", tail.header.key, flush=True)
"""


def test_kill_9_loses_nothing_durable_and_leaves_nothing_dangling(
    root: Path, opened: Opened, pytestconfig: pytest.Config
) -> None:
    wanted: set[PartId] = set()
    unwanted: set[PartId] = set()
    for life in range(4):
        writer = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-c", WRITER, str(root), str(life * 1_000_000)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=pytestconfig.rootpath,
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(1 + 3 * life)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.communicate()[0].splitlines(keepends=True)
        for line in lines:
            if not line.endswith("\n"):
                continue
            first, key = line.split()
            tail = PartId(BlockKey(key), PartKind.TAIL)
            if first == "-":
                unwanted.add(tail)
            else:
                wanted |= {PartId(BlockKey(first), PartKind.FULL), tail}
    store = opened()
    assert swept(store) == set()
    found = listed(store)
    # The last deletion of a life may have been done and not been told.
    assert len(wanted - unwanted - found) <= 4
    assert all(part.kind is PartKind.TAIL for part in wanted - unwanted - found)
    assert not found & unwanted
    files = {path.name for path in (root / "blk").rglob("*.st")}
    assert files == {f"{part.key}.{part.kind.value}.st" for part in found}
    assert all(store.get(NAMESPACE, part) is not None for part in found)
    assert list((root / "tmp").iterdir()) == []
