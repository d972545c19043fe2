import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.mutants import mutants

from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.domain.errors import CachePersistenceError, StoreLockedError

OWNER = """
import sys, time
from pathlib import Path
from semantic.adapters.outbound.storage.store_lock import StoreLock
lock = StoreLock(Path(sys.argv[1]))
lock.acquire()
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store"


@pytest.fixture
def owner(root: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", OWNER, str(root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_holds_which_folder(
    root: Path, owner: subprocess.Popen[str]
) -> None:
    with pytest.raises(StoreLockedError) as caught:
        StoreLock(root).acquire()
    assert str(root) in str(caught.value)
    assert f"process {owner.pid};" in str(caught.value)


def test_the_lock_ends_with_its_owner(root: Path, owner: subprocess.Popen[str]) -> None:
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    with StoreLock(root):
        assert (root / "store.lock").read_text() == str(os.getpid())


def test_one_process_cannot_lock_twice(root: Path) -> None:
    with StoreLock(root) as lock:
        with pytest.raises(StoreLockedError, match=f"process {os.getpid()};"):
            StoreLock(root).acquire()
        with pytest.raises(StoreLockedError):
            lock.acquire()


def test_a_released_lock_can_be_taken_again(root: Path) -> None:
    lock = StoreLock(root)
    lock.release()
    for _ in range(2):
        lock.acquire()
        lock.release()
    with StoreLock(root):
        pass


def test_the_folder_is_made_for_the_owner_alone(root: Path) -> None:
    with StoreLock(root):
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        assert stat.S_IMODE((root / "store.lock").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"not a number", b"9" * 5000])
def test_an_unreadable_owner_is_still_an_owner(root: Path, content: bytes) -> None:
    with StoreLock(root):
        (root / "store.lock").write_bytes(content)
        with pytest.raises(StoreLockedError, match="in use by"):
            StoreLock(root).acquire()


def test_the_rest_of_a_longer_owner_is_removed(root: Path) -> None:
    root.mkdir(parents=True)
    (root / "store.lock").write_text("9" * 100)
    with StoreLock(root):
        assert (root / "store.lock").read_text() == str(os.getpid())


def test_a_full_disk_does_not_stop_the_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with StoreLock(root), pytest.raises(StoreLockedError, match="another process"):
        StoreLock(root).acquire()


def test_a_file_system_without_locks_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(CachePersistenceError, match="cannot be locked") as caught:
        StoreLock(root).acquire()
    assert not isinstance(caught.value, StoreLockedError)


def test_a_root_that_is_no_folder_is_refused(root: Path) -> None:
    root.parent.mkdir()
    root.touch()
    with pytest.raises(CachePersistenceError, match="cannot be a store"):
        StoreLock(root).acquire()


def test_whatever_lies_in_the_lock_s_file_it_can_be_taken(root: Path) -> None:
    root.mkdir(parents=True)
    for _, damaged in mutants(b"12345", b"\xff" * 5, each=5, seed=1):
        (root / "store.lock").write_bytes(damaged)
        with StoreLock(root), pytest.raises(StoreLockedError):
            StoreLock(root).acquire()
