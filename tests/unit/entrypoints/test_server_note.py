import errno
import json
import os
import stat
from pathlib import Path

import pytest
from tests.fakes.mutants import mutants

from semantic.domain.errors import CachePersistenceError
from semantic.entrypoints import server_note
from semantic.entrypoints.server_note import ServerNote

NOTE = ServerNote("http://127.0.0.1:1", "secret")


def test_a_note_is_read_as_it_was_left_and_replaced(tmp_path: Path) -> None:
    server_note.write(tmp_path, ServerNote("old", "old"))
    server_note.write(tmp_path, NOTE)
    assert server_note.read(tmp_path) == NOTE
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    server_note.write(tmp_path, NOTE)
    assert stat.S_IMODE((tmp_path / "server.json").stat().st_mode) == 0o600


def test_a_removed_note_is_gone_and_may_be_removed_again(tmp_path: Path) -> None:
    server_note.write(tmp_path, NOTE)
    server_note.remove(tmp_path)
    server_note.remove(tmp_path)
    assert server_note.read(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 200_000, '{"url": 1, "token": "x"}', '{"url": "x", "token": "\\u00e9"}']
)
def test_what_cannot_be_understood_is_no_note(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text)
    assert server_note.read(tmp_path) is None


def test_no_damage_to_a_note_costs_more_than_the_note(tmp_path: Path) -> None:
    server_note.write(tmp_path, NOTE)
    path = tmp_path / "server.json"
    whole = path.read_bytes()
    for _, damaged in mutants(whole, whole[::-1], each=20, seed=1):
        path.write_bytes(damaged)
        note = server_note.read(tmp_path)
        assert note is None or (note.url + note.token).isascii()


def test_a_note_that_cannot_be_left_is_an_error_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(CachePersistenceError):
        server_note.write(tmp_path / "none", NOTE)


@pytest.mark.parametrize("failing", ["write", "replace"])
def test_nothing_is_left_of_a_note_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    server_note.write(tmp_path, ServerNote("http://127.0.0.1:1", "of a server that is gone"))
    target = json if failing == "write" else os
    monkeypatch.setattr(target, "dump" if failing == "write" else "replace", full)
    with pytest.raises(CachePersistenceError):
        server_note.write(tmp_path, NOTE)
    assert list(tmp_path.iterdir()) == []
