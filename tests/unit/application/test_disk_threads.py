import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from contextvars import ContextVar

import pytest
from tests.fakes.observed_stores import PATIENCE_S, Gate

from semantic.application.disk_threads import DiskThreads

WHO: ContextVar[str] = ContextVar("who", default="nobody")
NAME = "hung-disk"


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    made.shut()
    yield made
    made.open()


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_what_comes_of_it_is_told() -> None:
    threads = DiskThreads(NAME, limit=1)
    assert threads.begin(lambda: 5).result(PATIENCE_S) == 5
    with pytest.raises(ZeroDivisionError):
        threads.begin(lambda: 1 // 0).result(PATIENCE_S)
    assert threads.begin(lambda: 6).result(PATIENCE_S) == 6


def test_it_is_done_in_the_context_of_who_asks() -> None:
    token = WHO.set("somebody")
    asked = DiskThreads(NAME, limit=1).begin(WHO.get)
    WHO.reset(token)
    assert asked.result(PATIENCE_S) == "somebody"


def test_a_hung_disk_keeps_a_limited_number_of_threads(gate: Gate) -> None:
    threads = DiskThreads(NAME, limit=3)
    asked = [threads.begin(gate.enter) for _ in range(100)]
    for _ in range(3):
        gate.wait_reached()
    assert len(running()) == 3
    gate.open()
    assert not wait(asked, PATIENCE_S).not_done
    for thread in running():
        thread.join(PATIENCE_S)
    assert running() == []
    assert threads.begin(lambda: 5).result(PATIENCE_S) == 5


def test_what_nobody_waits_for_any_more_is_not_done(gate: Gate) -> None:
    threads = DiskThreads(NAME, limit=1)
    done: list[int] = []
    threads.begin(gate.enter)
    given_up, wanted = threads.begin(lambda: done.append(1)), threads.begin(lambda: done.append(2))
    assert given_up.cancel()
    gate.open()
    wanted.result(PATIENCE_S)
    assert done == [2]
    with pytest.raises(CancelledError):
        given_up.result(0)


def test_the_interpreter_ends_while_the_disk_hangs() -> None:
    program = (
        "import threading\n"
        "from semantic.application.disk_threads import DiskThreads\n"
        "DiskThreads('hung', 1).begin(threading.Event().wait)\n"
    )
    subprocess.run([sys.executable, "-c", program], timeout=PATIENCE_S, check=True)  # noqa: S603
