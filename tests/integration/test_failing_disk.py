"""Calls of the system that fail or stall: the first size of what `make soak` does."""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bench import fail_store


def tried() -> fail_store.Totals:
    """Threads take turns often, so that they meet in more ways."""
    sys.setswitchinterval(1e-4)
    return fail_store.run(faults=1000, every=16)


def test_whatever_the_disk_does_every_request_is_answered_and_nothing_is_kept() -> None:
    # In a process of its own: what is weighed there is nobody else's.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        totals = alone.submit(tried).result()
    assert totals.wrong == []
    assert totals.faults > 1100
    assert totals.kept_bytes > 1000  # what is known of new blocks: so it was measured
    # Reading and writing, of blocks, records and the index.
    assert {name.split()[0] for name in totals.met} >= {
        *("open", "pread", "write", "fsync", "rename", "mkdir", "unlink", "stat", "sqlite"),
    }
