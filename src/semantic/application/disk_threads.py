"""Calls of a disk that may hang for ever, on threads that nobody has to wait for.

Who asks sets the deadline. Invariant: at most `limit` threads are kept by a hung disk; what is
begun beyond that waits until one comes back, and what was cancelled by then is not done at all.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

SILENCE_S = 2.0
"""For how long nothing may come from the disk (HiCache's figure)."""

Result = TypeVar("Result")


class DiskThreads:
    """Threads that come with work and go with it. Safe to use from any thread."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._num_threads = 0

    def begin(self, work: Callable[[], Result]) -> "Future[Result]":
        """Do `work` in the caller's context, in the order of asking; what comes of it, or raises.

        Raises:
            RuntimeError: if there can be no more threads.
        """
        future: Future[Result] = Future()
        context = copy_context()
        with self._lock:
            if self._num_threads < self._limit:
                # A thread of an executor would be joined when the interpreter ends.
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
                self._num_threads += 1
            self._waiting.append(lambda: context.run(_perform, work, future))
        return future

    def _run(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._num_threads -= 1
            return None


def _perform(work: Callable[[], Result], future: "Future[Result]") -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        found = work()
    except BaseException as error:  # noqa: BLE001 - carried to whoever waits
        future.set_exception(error)
    else:
        future.set_result(found)
