"""SIGKILL at random moments of a busy store: the first size of what `make soak` does."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.busy_store import WRONG_ORDERS

ROOT = Path(__file__).parents[2]


def kill_store(*options: str) -> "subprocess.CompletedProcess[str]":
    # In a process of its own, without threads: it makes others by `fork`.
    command = [sys.executable, "-m", "bench.kill_store", *options]
    return subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_killed_store_loses_nothing_and_has_no_holes() -> None:
    done = kill_store("--kills", "100")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 kills of the store: 0 lost, 0 dangling, 0 holes, 0 wrong" in done.stdout


# The third order is found out as well, if not as soon: "file gone before row".
@pytest.mark.parametrize("order", [WRONG_ORDERS[0], WRONG_ORDERS[2]])
def test_any_other_order_of_writing_is_found_out(order: str) -> None:
    done = kill_store("--kills", "100", "--wrong-order", order)
    assert done.returncode == 1, done.stdout + done.stderr
    assert " of the store: " in done.stdout, done.stderr
