"""Damage of seven classes, read through the whole path: the first size of what `make soak` does."""

import sys
from collections.abc import Iterator

import pytest
from bench import corrupt_store


@pytest.fixture(autouse=True)
def quick_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def test_no_mutant_brings_wrong_bytes_or_a_wrong_answer() -> None:
    totals = corrupt_store.run(2000, seed=20261123)
    assert totals.wrong == []
    blocks = {kind: count for kind, count in totals.tried.items() if ": " not in kind}
    assert len(blocks) == 7
    assert sum(blocks.values()) == 2000
    assert totals.detected > 0.9 * sum(totals.tried.values())
