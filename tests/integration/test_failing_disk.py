"""Calls of the system that fail or stall: the first size of what `make soak` does."""

import sys
from collections.abc import Iterator

import pytest
from bench import fail_store


@pytest.fixture(autouse=True)
def quick_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def test_whatever_the_disk_does_every_request_is_answered_and_nothing_is_kept() -> None:
    totals = fail_store.run(faults=1000, every=16)
    assert totals.wrong == []
    assert totals.faults > 1100
    assert totals.kept_bytes > 1000  # what is known of new blocks: so it was measured
    # Reading and writing, of blocks, records and the index.
    assert {name.split()[0] for name in totals.met} >= {
        *("open", "pread", "write", "fsync", "rename", "mkdir", "unlink", "stat", "sqlite"),
    }
