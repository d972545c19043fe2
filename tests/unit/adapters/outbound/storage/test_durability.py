"""The order of system calls, and what is left when one of them fails."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.blocks import (
    NAMESPACE,
    SECRET,
    folder_of,
    make_part,
    plant_secret,
    without_tensors,
)
from tests.fakes.faulty_os import FaultyOs, count_calls
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage import durable_file
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import PartId, PartKind, StoredPart
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import BlockKey

PART = make_part()
ID = PART.header.id
FOLDER = f"blk/{folder_of(NAMESPACE)}/{ID.key[:2]}"
FILE = f"{FOLDER}/{ID.key}.full.st"
AGENT = AgentId.parse("alice", field="agent")
RECORD_FILE = f"agents/{SECRET.agent_name(AGENT.key)}.json"
RECORD = AgentRecord(name="alice", namespace="n", branches=(), updated_at=1.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant_secret(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def faults(root: Path, monkeypatch: pytest.MonkeyPatch) -> FaultyOs:
    return FaultyOs(root, monkeypatch)


@pytest.fixture
def store(root: Path) -> BlockFiles:
    return BlockFiles(root, RecordedTelemetry())


@pytest.fixture
def agents(root: Path) -> AgentFiles:
    return AgentFiles(root, RecordedTelemetry())


def files(root: Path) -> list[str]:
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return [name for name in found if name != "secret.key"]


def changes(faults: FaultyOs) -> list[tuple[str, str]]:
    """The calls that make or sync something, those repeated for one file's pieces left out."""
    noted = [call for call in faults.calls if call[0] != "open"]
    return [call for n, call in enumerate(noted) if n == 0 or call != noted[n - 1]]


EACH_KIND = pytest.mark.parametrize(
    "part",
    [*(make_part(kind=kind) for kind in PartKind), without_tensors(PART)],
    ids=[*(kind.value for kind in PartKind), "no tensors"],
)


def name_of(part: StoredPart) -> str:
    return f"{FOLDER}/{ID.key}.{part.header.kind.value}.st"


@EACH_KIND
def test_bytes_are_synced_before_their_name_and_names_before_the_answer(
    store: BlockFiles, faults: FaultyOs, part: StoredPart
) -> None:
    store.put(part)
    written = changes(faults)
    temporary = next(path for name, path in written if name == "write")
    assert temporary.startswith("tmp/")
    assert written == [
        ("mkdir", "blk"),
        ("mkdir", f"blk/{folder_of(NAMESPACE)}"),
        ("mkdir", FOLDER),
        ("sync", "blk"),
        ("sync", f"blk/{folder_of(NAMESPACE)}"),
        ("write", temporary),
        ("sync", temporary),
        ("rename", name_of(part)),
        ("sync", FOLDER),
    ]


def test_the_names_of_a_killed_process_are_synced_by_the_next(
    root: Path, store: BlockFiles, faults: FaultyOs
) -> None:
    store.put(PART)
    reopened = BlockFiles(root, RecordedTelemetry())
    faults.calls.clear()
    reopened.put(PART)
    synced = [path for name, path in faults.calls if name == "sync"]
    assert synced == ["blk", f"blk/{folder_of(NAMESPACE)}", FOLDER]


def test_folders_removed_by_an_operator_are_made_again(
    root: Path, store: BlockFiles, faults: FaultyOs
) -> None:
    store.put(PART)
    store.delete(NAMESPACE, ID)
    (root / FOLDER).rmdir()
    (root / FOLDER).parent.rmdir()
    faults.calls.clear()
    store.put(PART)
    assert ("sync", "blk") in faults.calls
    assert store.get(NAMESPACE, ID) == PART


@EACH_KIND
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_failed_put_leaves_nothing_behind(
    root: Path, faults: FaultyOs, part: StoredPart, error: int
) -> None:
    store = BlockFiles(root, RecordedTelemetry())
    calls = count_calls(faults, lambda: store.put(part))
    assert calls > 10
    store.delete(NAMESPACE, part.header.id)
    for number in range(calls):
        (root / FOLDER).rmdir()
        (root / FOLDER).parent.rmdir()
        faults.fail(number, error)
        failed = fails(lambda: store.put(part))
        faults.heal()
        assert files(root) == ([] if failed else [name_of(part)])
        store.put(part)
        assert store.get(NAMESPACE, part.header.id) == part
        store.delete(NAMESPACE, part.header.id)


def test_a_failed_put_leaves_the_parts_beside_it(store: BlockFiles, faults: FaultyOs) -> None:
    state = make_part(kind=PartKind.STATE)
    store.put(state)
    calls = count_calls(faults, lambda: store.put(PART))
    store.delete(NAMESPACE, ID)
    for number in range(calls):
        faults.fail(number)
        fails(lambda: store.put(PART))
        faults.heal()
        store.delete(NAMESPACE, ID)
        assert store.get(NAMESPACE, state.header.id) == state


def test_a_failed_save_leaves_the_old_record(
    root: Path, agents: AgentFiles, faults: FaultyOs
) -> None:
    agents.save(AGENT, RECORD)
    calls = count_calls(faults, lambda: agents.save(AGENT, RECORD))
    for number in range(calls):
        newer = replace(RECORD, updated_at=2.0 + number)
        before = agents.load(AGENT)
        faults.fail(number)
        failed = fails(lambda record=newer: agents.save(AGENT, record))  # type: ignore[misc] # bound now
        faults.heal()
        assert agents.load(AGENT) == (before if failed else newer)
        assert files(root) == [RECORD_FILE]


def test_a_failed_first_save_leaves_no_record(
    root: Path, agents: AgentFiles, faults: FaultyOs
) -> None:
    calls = count_calls(faults, lambda: agents.save(AGENT, RECORD))
    for number in range(calls):
        (root / "agents" / Path(RECORD_FILE).name).unlink(missing_ok=True)
        faults.fail(number)
        failed = fails(lambda: agents.save(AGENT, RECORD))
        faults.heal()
        assert files(root) == ([] if failed else [RECORD_FILE])


def fails(action: Callable[[], object]) -> bool:
    try:
        action()
    except CachePersistenceError:
        return True
    return False


@pytest.mark.parametrize("store_class", [BlockFiles, AgentFiles])
def test_a_store_that_cannot_be_opened_says_so(
    root: Path, faults: FaultyOs, store_class: type[BlockFiles | AgentFiles]
) -> None:
    def opened(place: Path) -> None:
        store_class(place, RecordedTelemetry())

    for number in range(count_calls(faults, lambda: opened(root))):
        call = faults.calls[number]
        faults.fail(number)
        assert fails(lambda: opened(root.with_name(f"store {number}"))), call  # noqa: B023
        faults.heal()


def test_losing_the_race_to_write_keeps_the_winner(
    root: Path, store: BlockFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner, loser = make_part(seed=1), make_part(seed=2)
    real = durable_file.sync
    raced: list[int] = []

    def overtaken(descriptor: int) -> None:
        """While the loser waits for its bytes to be synced, the winner comes through."""
        real(descriptor)
        if not raced and any((root / "tmp").iterdir()):
            raced.append(descriptor)
            store.put(winner)

    monkeypatch.setattr(durable_file, "sync", overtaken)
    store.put(loser)
    assert raced
    assert store.get(NAMESPACE, ID) == winner
    assert files(root) == [FILE]


def test_several_parts_are_all_written_before_any_is_synced_and_all_synced_before_any_is_named(
    store: BlockFiles, faults: FaultyOs
) -> None:
    parts = [make_part((number,)) for number in range(5)]
    folders = {f"blk/{folder_of(NAMESPACE)}/{part.header.key[:2]}" for part in parts}
    store.put(*parts)
    done = changes(faults)
    kinds = ["tmp" if path.startswith("tmp/") else "folder" for _, path in done]
    steps = [(name, kind) for (name, _), kind in zip(done, kinds, strict=True) if name != "mkdir"]
    assert steps == [
        *2 * [("sync", "folder")],
        *5 * [("write", "tmp")],
        *5 * [("sync", "tmp")],
        *5 * [("rename", "folder")],
        *len(folders) * [("sync", "folder")],
    ]
    assert {path for _, path in done[-len(folders) :]} == folders


def test_several_records_share_the_sync_of_their_folder(
    agents: AgentFiles, faults: FaultyOs
) -> None:
    bob = AgentId.parse("bob", field="agent")
    faults.calls.clear()
    agents.save_all({AGENT: RECORD, bob: replace(RECORD, name="bob")})
    names = [name for name, _ in changes(faults) if name != "mkdir"]
    assert names == ["write", "write", "sync", "sync", "rename", "rename", "sync"]


def test_when_several_records_fail_all_the_old_ones_stand(
    agents: AgentFiles, faults: FaultyOs
) -> None:
    bob = AgentId.parse("bob", field="agent")
    agents.save(AGENT, RECORD)
    newer = replace(RECORD, updated_at=2.0)
    both = {AGENT: newer, bob: replace(newer, name="bob")}
    calls = count_calls(faults, lambda: agents.save_all(both))
    for number in range(calls):
        agents.save(AGENT, RECORD)
        agents.delete(bob)
        faults.fail(number)
        failed = fails(lambda: agents.save_all(both))
        faults.heal()
        assert agents.load(AGENT) == (RECORD if failed else newer)
        assert (agents.load(bob) is None) == failed


class TestFullSync:
    """Where the platform can sync through the drive's own cache, that is used."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        asked: list[int] = []
        monkeypatch.setattr(durable_file, "_FULL_SYNC", 51)
        monkeypatch.setattr(os, "fsync", lambda _: asked.append(0))
        return asked

    def test_is_preferred(self, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcntl, "fcntl", lambda _, command: asked.append(command))
        durable_file.sync(1)
        assert asked == [51]

    def test_is_done_without_where_the_file_system_cannot(
        self, asked: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: int, __: int) -> None:
            raise OSError(errno.ENOTSUP, "")

        monkeypatch.setattr(fcntl, "fcntl", refuse)
        durable_file.sync(1)
        assert asked == [0]

    def test_fails_where_the_medium_does(
        self, asked: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: int, __: int) -> None:
            raise OSError(errno.EIO, "")

        monkeypatch.setattr(fcntl, "fcntl", refuse)
        with pytest.raises(OSError, match="5"):
            durable_file.sync(1)
        assert asked == []


class TestBarrier:
    """macOS, simulated: a barrier for each file, and one full sync for all of them."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        asked: list[int] = []
        monkeypatch.setattr(durable_file, "_FULL_SYNC", 51)
        monkeypatch.setattr(durable_file, "_BARRIER", 85)
        monkeypatch.setattr(os, "fsync", lambda _: asked.append(0))
        monkeypatch.setattr(fcntl, "fcntl", lambda _, command: asked.append(command))
        return asked

    def test_files_that_come_together_share_a_full_sync(self, root: Path, asked: list[int]) -> None:
        store = BlockFiles(root, RecordedTelemetry())
        parts = [make_part((number,)) for number in range(5)]
        folders = {part.header.key[:2] for part in parts}
        for part in parts:
            store.put(part)
            store.delete(NAMESPACE, part.header.id)
        asked.clear()
        store.put(*parts)
        assert asked == [*5 * [85], *(len(folders) - 1) * [85], 51]

    @pytest.mark.parametrize(
        ("unknown", "done_instead"), [((85,), [51]), ((85, 51), [0])], ids=["barrier", "both"]
    )
    def test_where_it_is_not_known_the_next_stronger_one_is_used(
        self,
        asked: list[int],
        monkeypatch: pytest.MonkeyPatch,
        unknown: tuple[int, ...],
        done_instead: list[int],
    ) -> None:
        def some(_: int, command: int) -> None:
            if command in unknown:
                raise OSError(errno.ENOTSUP, "")
            asked.append(command)

        monkeypatch.setattr(fcntl, "fcntl", some)
        durable_file.order(1)
        assert asked == done_instead

    def test_fails_where_the_medium_does(
        self, asked: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: int, __: int) -> None:
            raise OSError(errno.EIO, "")

        monkeypatch.setattr(fcntl, "fcntl", refuse)
        with pytest.raises(OSError, match="5"):
            durable_file.order(1)
        assert asked == []


WRITER = """
import sys
from itertools import count
from pathlib import Path
from semantic.adapters.outbound.storage.block_files import BlockFiles
from tests.fakes.blocks import make_part
from tests.fakes.recorded_telemetry import RecordedTelemetry
from semantic.domain.block import PartKind

store = BlockFiles(Path(sys.argv[1]), RecordedTelemetry())
for number in count(int(sys.argv[2])):
    for kind in PartKind:
        part = make_part((number,) * 64, kind=kind)
        store.put(part)
        print(part.header.key, kind.value, flush=True)
"""


def acknowledged_in(line: str) -> PartId:
    key, kind = line.split()
    return PartId(BlockKey(key), PartKind(kind))


def test_no_acknowledged_part_is_lost_by_kill_9(root: Path, pytestconfig: pytest.Config) -> None:
    numbers = random.Random(9)  # noqa: S311 - when to kill, no secrets
    acknowledged: list[PartId] = []
    for life in range(6):
        writer = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-c", WRITER, str(root), str(life * 1_000_000)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=pytestconfig.rootpath,
        )
        assert writer.stdout is not None
        acknowledged.append(acknowledged_in(writer.stdout.readline()))
        time.sleep(numbers.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0]
        acknowledged += [
            acknowledged_in(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")
        ]
    telemetry = RecordedTelemetry()
    store = BlockFiles(root, telemetry)
    assert all(store.get(NAMESPACE, part) is not None for part in acknowledged)
    listed = {header.id for header in store.headers(NAMESPACE)}
    assert listed >= set(acknowledged)
    assert telemetry.names("warning") == []
    assert list((root / "tmp").iterdir()) == []
