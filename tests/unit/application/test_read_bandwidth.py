"""That it measures. What the figure is depends on the disk, and is judged by `make soak`."""

import os
from pathlib import Path

import pytest
from bench.read_bandwidth import measure


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the cache cannot be dropped")
def test_what_is_restored_and_what_is_read_plainly_are_measured(tmp_path: Path) -> None:
    found = measure(tmp_path, tokens=512, rounds=2)
    assert found.restored > 0
    assert found.plain > 0
    assert 0 < found.ratio < 100
