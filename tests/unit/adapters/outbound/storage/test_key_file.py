import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from semantic.adapters.outbound.storage import key_format
from semantic.adapters.outbound.storage.key_file import FILE, KeyFile
from semantic.domain.api_key import ApiKey, KeyLimits, digest_of
from semantic.domain.errors import CachePersistenceError, IncompatibleCacheError, KeyNotFoundError
from semantic.domain.ids import KeyName, TenantId

ALICE = ApiKey(KeyName("alice"), digest_of("a"), 1.5, TenantId("team"), KeyLimits(60, None))
BOB = ApiKey(KeyName("bob"), digest_of("b"), 2.0)
_ADD = """
import sys
from pathlib import Path
from semantic.adapters.outbound.storage.key_file import KeyFile
from semantic.domain.api_key import ApiKey, digest_of
keys = KeyFile(Path(sys.argv[1]))
for number in range(10):
    name = f"{sys.argv[2]}-{number}"
    keys.add(ApiKey(name, digest_of(name), 0.0))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_another_process_sees_a_change(root: Path) -> None:
    reader, writer = KeyFile(root), KeyFile(root)
    seen = [reader.all()]
    writer.add(ALICE)
    seen.append(reader.all())
    writer.add(BOB)
    seen.append(reader.all())
    writer.remove(ALICE.name)
    seen.append(reader.all())
    assert seen == [(), (ALICE,), (ALICE, BOB), (BOB,)]


def test_processes_that_add_at_once_lose_no_key(root: Path) -> None:
    adding = [
        subprocess.Popen([sys.executable, "-c", _ADD, str(root), name])  # noqa: S603 - our own
        for name in ("a", "b", "c")
    ]
    assert [process.wait(60) for process in adding] == [0, 0, 0]
    assert len(KeyFile(root).all()) == 30


def test_the_file_is_its_owners_alone_and_holds_no_key(root: Path) -> None:
    KeyFile(root).add(ALICE)
    assert stat.S_IMODE((root / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert sorted(path.name for path in root.iterdir()) == ["keys.json", "keys.lock"]
    assert b'"a"' not in (root / FILE).read_bytes()


def test_a_file_that_is_open_to_others_lets_nobody_in(root: Path) -> None:
    keys = KeyFile(root)
    keys.add(ALICE)
    assert keys.all() == (ALICE,)
    (root / FILE).chmod(0o620)
    with pytest.raises(CachePersistenceError, match="chmod 600"):
        keys.all()
    (root / FILE).chmod(0o600)
    assert keys.all() == (ALICE,)


def test_removing_what_is_not_there_makes_no_store(root: Path) -> None:
    with pytest.raises(KeyNotFoundError):
        KeyFile(root).remove(ALICE.name)
    assert not root.exists()


def test_every_flipped_bit_is_damage(root: Path) -> None:
    KeyFile(root).add(ALICE)
    whole = (root / FILE).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        (root / FILE).write_bytes(damaged)
        with pytest.raises(CachePersistenceError):
            KeyFile(root).all()


@pytest.mark.parametrize("length", [0, 1, 100])
def test_a_file_that_was_cut_off_is_damage(root: Path, length: int) -> None:
    KeyFile(root).add(ALICE)
    (root / FILE).write_bytes((root / FILE).read_bytes()[:length])
    with pytest.raises(CachePersistenceError, match="nobody is let in"):
        KeyFile(root).all()


def test_another_format_is_none_of_ours() -> None:
    with pytest.raises(IncompatibleCacheError):
        key_format.decode(key_format.encode([ALICE]).replace(b"keys/1", b"keys/2"))


def test_what_is_no_file_lets_nobody_in(root: Path) -> None:
    root.mkdir()
    (root / FILE).mkdir()
    with pytest.raises(CachePersistenceError):
        KeyFile(root).all()
    (root / FILE).rmdir()
    (root / FILE).symlink_to("/dev/null")
    with pytest.raises(CachePersistenceError):
        KeyFile(root).all()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_lets_nobody_in(root: Path) -> None:
    KeyFile(root).add(ALICE)
    root.chmod(0)
    try:
        with pytest.raises(CachePersistenceError):
            KeyFile(root).all()
    finally:
        root.chmod(0o700)


def test_a_write_that_was_cut_off_leaves_the_keys_as_they_were(root: Path) -> None:
    keys = KeyFile(root)
    keys.add(ALICE)
    (root / f"{FILE}.new").write_bytes(b"half")
    assert KeyFile(root).all() == (ALICE,)
    keys.add(BOB)
    assert KeyFile(root).all() == (ALICE, BOB)
