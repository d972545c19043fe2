import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.blocks import (
    NAMESPACE,
    OTHER_NAMESPACE,
    make_part,
    path_in,
    plant_secret,
    without_tensors,
)
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_format import FORMAT, encode
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.block import PartId, PartKind, StoredPart
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.ids import BlockKey, Namespace

PART = make_part()
ID = PART.header.id


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant_secret(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def telemetry() -> RecordedTelemetry:
    return RecordedTelemetry()


@pytest.fixture
def store(root: Path, telemetry: RecordedTelemetry) -> BlockFiles:
    return BlockFiles(root, telemetry)


def path_of(root: Path, part: StoredPart = PART) -> Path:
    return path_in(root, part.header.namespace, part.header.id)


def files(root: Path) -> list[Path]:
    """Whatever there is but the secret."""
    found = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in found if path != root / "secret.key"]


def quarantined(root: Path) -> int:
    return len(list((root / "quarantine").iterdir()))


def plant(root: Path, data: bytes, part: StoredPart = PART) -> Path:
    path = path_of(root, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def bytes_of(part: StoredPart) -> bytes:
    return b"".join(encode(part))


@pytest.mark.parametrize("kind", PartKind)
def test_a_part_lies_where_the_layout_says(root: Path, store: BlockFiles, kind: PartKind) -> None:
    part = make_part(kind=kind)
    store.put(part)
    assert path_of(root, part).read_bytes() == bytes_of(part)
    assert files(root) == [path_of(root, part)]


@pytest.mark.parametrize("kind", PartKind)
def test_a_part_without_tensors_is_a_header_alone(
    root: Path, store: BlockFiles, kind: PartKind
) -> None:
    part = without_tensors(make_part(kind=kind))
    store.put(part)
    (head,) = encode(part)
    assert path_of(root, part).read_bytes() == head
    assert store.get(NAMESPACE, part.header.id) == part


@pytest.mark.parametrize("kind", PartKind)
def test_a_part_takes_what_its_file_takes(root: Path, store: BlockFiles, kind: PartKind) -> None:
    parts = [make_part(kind=each) for each in PartKind]
    for part in parts:
        store.put(part)
    found = store.nbytes(NAMESPACE, PartId(ID.key, kind))
    assert found == path_of(root, make_part(kind=kind)).stat().st_size


def test_everything_is_for_the_owner_alone(root: Path, store: BlockFiles) -> None:
    store.put(PART)
    for path in (root, *root.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


@pytest.mark.parametrize("kind", PartKind)
def test_a_part_survives_reopening(root: Path, store: BlockFiles, kind: PartKind) -> None:
    part = make_part(kind=kind)
    store.put(part)
    assert BlockFiles(root, RecordedTelemetry()).get(NAMESPACE, part.header.id) == part


def test_what_a_killed_writer_left_is_swept(root: Path, store: BlockFiles) -> None:
    store.put(PART)
    stale = root / "tmp" / "block-4711-0"
    foreign = root / "tmp" / "agent-4711-0"
    stale.touch()
    foreign.touch()
    (root / "tmp" / "block-folder").mkdir()
    telemetry = RecordedTelemetry()
    reopened = BlockFiles(root, telemetry)
    assert not stale.exists()
    assert foreign.exists()
    assert reopened.get(NAMESPACE, ID) == PART
    assert telemetry.names() == ["block_tmp_swept"]


@pytest.mark.parametrize("key", ["", "..", "a" * 63, "A" * 64, "a" * 64 + "\n", "../" + "a" * 61])
def test_only_hashes_become_paths(store: BlockFiles, key: str) -> None:
    part = PartId(BlockKey(key), PartKind.FULL)
    for ask in (store.get, store.exists, store.delete):
        with pytest.raises(ValueError, match="no block key"):
            ask(NAMESPACE, part)
        with pytest.raises(ValueError, match="no namespace"):
            ask(Namespace(key), ID)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").touch()


def as_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def as_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_socket(path: Path) -> None:
    path.unlink()
    # By a short relative name: addresses of sockets are short.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def as_nothing(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "become", [as_folder, as_link, as_dangling_link, as_pipe, as_socket, as_nothing]
)
def test_what_is_no_part_is_set_aside(
    root: Path, store: BlockFiles, telemetry: RecordedTelemetry, become: Callable[[Path], None]
) -> None:
    store.put(PART)
    become(path_of(root))
    assert store.exists(NAMESPACE, ID)
    assert list(store.headers(NAMESPACE)) == []
    with pytest.raises(CacheCorruptionError):
        store.get(NAMESPACE, ID)
    assert store.get(NAMESPACE, ID) is None
    assert not store.exists(NAMESPACE, ID)
    assert quarantined(root) == 1
    assert telemetry.names("warning") == ["block_skipped", "block_set_aside"]
    assert telemetry.events[-1].fields["moved"] is True


def under(namespace: Namespace) -> StoredPart:
    """The part as it would be if another model's KV had its name."""
    return replace(PART, header=replace(PART.header, namespace=namespace))


@pytest.mark.parametrize(
    "stranger",
    [
        make_part((9, 9, 9)),
        under(OTHER_NAMESPACE),
        under(Namespace(NAMESPACE[:12] + OTHER_NAMESPACE[12:])),
    ],
    ids=["key", "namespace", "namespace with the same beginning"],
)
def test_another_part_in_its_place_is_incompatible(
    root: Path, store: BlockFiles, telemetry: RecordedTelemetry, stranger: StoredPart
) -> None:
    plant(root, bytes_of(stranger))
    assert list(store.headers(NAMESPACE)) == []
    with pytest.raises(IncompatibleCacheError):
        store.get(NAMESPACE, ID)
    assert store.get(NAMESPACE, ID) is None
    assert quarantined(root) == 1
    assert telemetry.names("warning") == ["block_skipped", "block_set_aside"]


def as_it_is(part: StoredPart) -> StoredPart:
    return part


RENAMES = {
    f"{kind.value} to {name.value}{'' if tokens == (1, 2, 3) else ' of another block'}": (
        make_part(kind=kind),
        make_part(tokens, kind=name),
    )
    for kind in PartKind
    for name in PartKind
    for tokens in ((1, 2, 3), (9, 9, 9))
    if (tokens, name) != ((1, 2, 3), kind)
}


@pytest.mark.parametrize("content", [as_it_is, without_tensors])
@pytest.mark.parametrize(("part", "renamed"), RENAMES.values(), ids=RENAMES)
def test_a_renamed_file_is_incompatible(
    root: Path,
    store: BlockFiles,
    part: StoredPart,
    renamed: StoredPart,
    content: Callable[[StoredPart], StoredPart],
) -> None:
    store.put(content(part))
    target = path_of(root, renamed)
    target.parent.mkdir(exist_ok=True)
    path_of(root, part).rename(target)
    assert list(store.headers(NAMESPACE)) == []
    with pytest.raises(
        IncompatibleCacheError, match=f"{part.header.kind.value} part of block {ID.key}"
    ):
        store.get(NAMESPACE, renamed.header.id)
    assert store.get(NAMESPACE, renamed.header.id) is None
    assert quarantined(root) == 1
    store.put(renamed)
    assert store.get(NAMESPACE, renamed.header.id) == renamed


@pytest.mark.parametrize("version", [b"semantic-block/1", b"semantic-block/2"])
def test_another_format_is_incompatible_and_set_aside(
    root: Path, store: BlockFiles, version: bytes
) -> None:
    plant(root, bytes_of(PART).replace(FORMAT.encode(), version))
    assert list(store.headers(NAMESPACE)) == []
    with pytest.raises(IncompatibleCacheError, match="format"):
        store.get(NAMESPACE, ID)
    assert store.get(NAMESPACE, ID) is None
    assert quarantined(root) == 1


def test_a_damaged_payload_does_not_hide_the_header(root: Path, store: BlockFiles) -> None:
    data = bytearray(bytes_of(PART))
    data[-1] ^= 1
    plant(root, bytes(data))
    assert list(store.headers(NAMESPACE)) == [PART.header]
    with pytest.raises(CacheCorruptionError, match="payload"):
        store.get(NAMESPACE, ID)


def test_a_huge_file_is_refused_without_reading_it(root: Path, store: BlockFiles) -> None:
    path = plant(root, bytes_of(PART))
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(CacheCorruptionError, match="bytes"):
        store.get(NAMESPACE, ID)


def test_a_damaged_part_is_replaced_by_the_next_writer(root: Path, store: BlockFiles) -> None:
    plant(root, b"damaged")
    store.put(PART)
    assert store.get(NAMESPACE, ID) == PART
    assert quarantined(root) == 1


def test_damage_stays_reported_where_nothing_can_be_moved_or_removed(
    root: Path, store: BlockFiles, telemetry: RecordedTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    plant(root, b"damaged")
    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    for _ in range(2):
        with pytest.raises(CacheCorruptionError):
            store.get(NAMESPACE, ID)
    assert [event.fields["moved"] for event in telemetry.events] == [False, False]


def test_a_healthy_part_put_meanwhile_is_not_set_aside(
    root: Path, store: BlockFiles, telemetry: RecordedTelemetry
) -> None:
    path = plant(root, b"damaged")
    with RegularFile(path) as file:
        path.unlink()
        store.put(PART)
        store._folder.set_aside(path, file.identity, "found by a slower reader")
    assert store.get(NAMESPACE, ID) == PART
    assert telemetry.events[-1].fields["moved"] is False


def failing_open(patch: pytest.MonkeyPatch, path: Path, error: int) -> None:
    real = os.open

    def refuse(wanted: Path, flags: int, mode: int = 0o777) -> int:
        if wanted == path:
            raise OSError(error, os.strerror(error))
        return real(wanted, flags, mode)

    patch.setattr(os, "open", refuse)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_what_cannot_be_read_is_left_in_place(
    root: Path,
    store: BlockFiles,
    telemetry: RecordedTelemetry,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
) -> None:
    store.put(PART)
    with monkeypatch.context() as patch:
        failing_open(patch, path_of(root), error)
        with pytest.raises(CachePersistenceError):
            store.get(NAMESPACE, ID)
        assert list(store.headers(NAMESPACE)) == []
    assert telemetry.names() == ["block_skipped"]
    assert store.get(NAMESPACE, ID) == PART


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_a_part_that_cannot_be_read_is_replaced(
    root: Path, store: BlockFiles, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    store.put(PART)
    with monkeypatch.context() as patch:
        failing_open(patch, path_of(root), error)
        store.put(make_part(seed=1))
    assert store.get(NAMESPACE, ID) == make_part(seed=1)


def test_want_of_descriptors_is_no_damage(
    root: Path, store: BlockFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(PART)
    with monkeypatch.context() as patch:
        failing_open(patch, path_of(root), errno.EMFILE)
        with pytest.raises(CachePersistenceError):
            store.put(make_part(seed=1))
    assert store.get(NAMESPACE, ID) == PART


def test_a_file_that_shrinks_while_it_is_read_is_damaged(
    root: Path, store: BlockFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(PART)
    size = path_of(root).stat().st_size
    real = os.pread

    def short(descriptor: int, length: int, offset: int) -> bytes:
        os.truncate(path_of(root), size - 1)
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", short)
    with pytest.raises(CacheCorruptionError, match="ends"):
        store.get(NAMESPACE, ID)


def test_bytes_that_come_in_pieces_are_put_together(
    store: BlockFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(PART)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, at: real(fd, max(1, length // 2), at))
    assert store.get(NAMESPACE, ID) == PART


def test_headers_pass_over_what_is_no_part(
    root: Path, store: BlockFiles, telemetry: RecordedTelemetry
) -> None:
    store.put(PART)
    path_of(root).with_name("notes.txt").touch()
    path_of(root).parent.with_name("zz").touch()
    plant(root, b"damaged", make_part((4, 5)))
    assert list(store.headers(NAMESPACE)) == [PART.header]
    assert telemetry.names() == ["block_skipped"]


def test_headers_pass_over_parts_that_are_deleted_meanwhile(
    store: BlockFiles, telemetry: RecordedTelemetry
) -> None:
    # All parts of a block lie in one folder, which is listed at once.
    parts = [make_part(kind=kind) for kind in PartKind]
    for part in parts:
        store.put(part)
    found = store.headers(NAMESPACE)
    first = next(found)
    for part in parts:
        store.delete(NAMESPACE, part.header.id)
    assert first in [part.header for part in parts]
    assert list(found) == []
    assert telemetry.names() == []


def test_headers_report_a_folder_that_cannot_be_listed(
    store: BlockFiles, telemetry: RecordedTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(PART)

    def refuse(path: Path) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    assert list(store.headers(NAMESPACE)) == []
    assert telemetry.names() == ["block_folder_skipped"]


def test_a_part_that_cannot_be_removed_is_reported(root: Path, store: BlockFiles) -> None:
    store.put(PART)
    as_folder(path_of(root))
    with pytest.raises(CachePersistenceError):
        store.delete(NAMESPACE, ID)


def test_a_file_in_place_of_a_folder_is_no_crash(root: Path, store: BlockFiles) -> None:
    path_of(root).parent.parent.mkdir()
    path_of(root).parent.touch()
    with pytest.raises(CachePersistenceError):
        store.put(PART)
    with pytest.raises(CachePersistenceError):
        store.get(NAMESPACE, ID)
    assert not store.exists(NAMESPACE, ID)
    assert list(store.headers(NAMESPACE)) == []


def test_a_root_that_is_no_folder_is_refused(root: Path) -> None:
    root = root / "secret.key"
    with pytest.raises(CachePersistenceError, match="store"):
        BlockFiles(root, RecordedTelemetry())


def test_nothing_is_written_for_a_part_that_cannot_be(root: Path, store: BlockFiles) -> None:
    with pytest.raises(CachePersistenceError):
        store.put(replace(PART, tensors=(replace(PART.tensors[0], dtype="F7"),)))
    assert files(root) == []
