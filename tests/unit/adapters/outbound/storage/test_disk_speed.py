import errno
import os
from pathlib import Path

import pytest

from semantic.adapters.outbound.storage import disk_speed


def test_both_ways_are_measured_and_nothing_is_left(tmp_path: Path) -> None:
    speed = disk_speed.measure(tmp_path)
    assert min(speed.written, speed.read) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        disk_speed.measure(tmp_path)
    assert list(tmp_path.iterdir()) == []
