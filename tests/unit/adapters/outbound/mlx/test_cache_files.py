import multiprocessing
import time
from functools import partial
from pathlib import Path

import pytest

from semantic.adapters.outbound.mlx import cache_files


def slow_fill(log: Path, folder: Path) -> None:
    (folder / "half").write_text("first")
    time.sleep(0.3)
    (folder / "whole").write_text("second")
    with log.open("a") as file:
        file.write("filled\n")


def make(target: Path, log: Path) -> None:
    cache_files.make_folder(target, partial(slow_fill, log))
    assert {p.name for p in target.iterdir()} == {"half", "whole"}


def test_a_file_gets_its_content(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    cache_files.write_file(path, b"one")
    cache_files.write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        cache_files.write_file(tmp_path / "taken", b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_two_processes_fill_a_folder_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    target, log = tmp_path / "folder", tmp_path / "log"
    processes = [spawn.Process(target=make, args=(target, log)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text() == "filled\n"


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "part").write_text("part")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        cache_files.make_folder(tmp_path / "folder", fail)
    assert [p.name for p in tmp_path.iterdir()] == [".folder.lock"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / ".folder.abc.tmp"
    stale.mkdir()
    (stale / "big").write_text("remains")
    cache_files.make_folder(tmp_path / "folder", lambda new: (new / "x").touch())
    assert not stale.exists()
    assert (tmp_path / "folder" / "x").exists()
