"""The only thread that touches the engine and the cache, and the inbox in front of it.

Owns the thread's life and what crosses into it. What is done there is `engine_work`'s.
Invariant: once a job has been accepted it gets its last event, even if the thread dies; and where
it hangs, or is lost with what it owed, that can be seen from outside.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from semantic.application.engine_job import Job
from semantic.application.engine_work import EngineParts, EngineWork
from semantic.application.room import Room
from semantic.domain.block import PartId, StoredPart
from semantic.domain.errors import EngineError
from semantic.domain.ids import SequenceId
from semantic.domain.lineage import Lineage
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """At most `max_jobs` jobs may be accepted and unfinished.

    `step_timeout_s`: an engine that takes longer for one turn hangs.
    """

    max_jobs: int
    step_timeout_s: float


@dataclass(frozen=True, slots=True)
class _Submit:
    job: Job


@dataclass(frozen=True, slots=True)
class _Cancel:
    sequence: SequenceId


@dataclass(frozen=True, slots=True)
class _Arrived:
    part: PartId
    found: StoredPart | None


@dataclass(frozen=True, slots=True)
class _Drop:
    own: Lineage
    others: Lineage
    done: Callable[[tuple[PartId, ...]], None]


class _Stop:
    """End all jobs, then the thread."""


_Message = _Submit | _Cancel | _Arrived | _Drop | _Stop


class EngineLoop:
    """Start it once; everything else may be asked from any thread."""

    def __init__(self, limits: LoopLimits, clock: Clock, telemetry: Telemetry) -> None:
        self._step_timeout_s = limits.step_timeout_s
        self._room = Room(limits.max_jobs, clock)
        self._clock = clock
        self._telemetry = telemetry
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._alive = False
        self._died = False
        self._turn_began: float | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    @property
    def alive(self) -> bool:
        """Whether a job would be worked on."""
        return self._alive and self.failure is None

    @property
    def failure(self) -> str | None:
        """Why it does not work though nobody stopped it; None if that is not so.

        One that hangs may come back.
        """
        if self._died:
            return "the engine has died"
        began = self._turn_began  # once: it is the other thread's
        if began is None or self._clock.monotonic() - began <= self._step_timeout_s:
            return None
        return f"the engine has been at one step for more than {self._step_timeout_s:g} s"

    @property
    def ended(self) -> bool:
        """Whether its work is over: no event comes after that."""
        return self._ended.is_set()

    @property
    def unfinished(self) -> int:
        """Jobs that were accepted and have not ended."""
        return self._room.unfinished

    def start(self, build: Callable[[], EngineParts]) -> None:
        """Start the thread; return once `build` has run on it, since the engine belongs to it.

        Raises:
            BaseException: whatever `build` raised; the thread's work has ended then.
        """
        outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, args=(build, outcome), name="engine", daemon=True
        )
        self._thread.start()
        error = outcome.get()
        if error is not None:
            raise error

    def submit(self, job: Job) -> None:
        """Hand in a job. Its events come from the engine's thread.

        Raises:
            PoolExhaustedError: if too many jobs are unfinished.
            EngineError: if the engine is not running, or hangs.
        """
        with self._lock:
            self._check_alive()
            self._room.take()
            self._inbox.put(_Submit(job))

    def cancel(self, sequence: SequenceId) -> None:
        """End a job early; what it computed is kept. Unknown and ended ones are ignored."""
        self._inbox.put(_Cancel(sequence))

    def drop(
        self, own: Lineage, others: Lineage, done: Callable[[tuple[PartId, ...]], None]
    ) -> None:
        """Forget blocks, see `KvCache.drop`; `done` hears which, on the engine's thread.

        Raises:
            EngineError: if the engine is not running, or hangs.
        """
        with self._lock:
            self._check_alive()
            self._inbox.put(_Drop(own, others, done))

    def stop(self, timeout_s: float) -> bool:
        """End all jobs and the thread's work. False if that took longer than `timeout_s`."""
        if self._thread is None:
            return True
        self._inbox.put(_Stop())
        return self._ended.wait(timeout_s)

    def _run(
        self, build: Callable[[], EngineParts], outcome: "queue.SimpleQueue[BaseException | None]"
    ) -> None:
        self._work(build, outcome)
        self._turn_began = None
        self._ended.set()
        # The thread itself must not end: an engine's library may tear down its thread's state then,
        # and abort the process if the interpreter is being finalised meanwhile. MLX does.
        threading.Event().wait()

    def _work(
        self, build: Callable[[], EngineParts], outcome: "queue.SimpleQueue[BaseException | None]"
    ) -> None:
        try:
            parts = build()
        except BaseException as error:  # noqa: BLE001 - carried to the caller of `start`
            outcome.put(error)
            return
        work = EngineWork(parts, self._deliver, self._closed)
        self._alive = True
        outcome.put(None)
        end_all = work.cancel_all
        try:
            while self._receive(work):
                work.turn()
        except BaseException as error:  # noqa: BLE001 - a bug must not leave requests hanging
            end_all = partial(work.fail_all, self._dead(error))
        try:
            self._shut(work, end_all)
            parts.reader.close()
        except BaseException as error:  # noqa: BLE001 - who waits in vain looks after the engine
            self._dead(error)

    def _receive(self, work: EngineWork) -> bool:
        """Pass on what has come; wait if there is nothing else to do. False: time to stop."""
        idle = work.idle
        self._turn_began = None if idle else self._clock.monotonic()
        try:
            message = self._inbox.get(block=idle, timeout=work.patience() if idle else None)
            self._turn_began = self._clock.monotonic()
            while self._pass_on(work, message):
                if work.hurried:
                    return True
                message = self._inbox.get_nowait()
        except queue.Empty:
            self._turn_began = self._clock.monotonic()
            return True
        return False

    def _dead(self, error: BaseException) -> EngineError:
        """The engine dies of `error`: what jobs are told of it."""
        self._died = True
        self._telemetry.error("engine_died", error=repr(error))
        return EngineError(f"the engine has died: {error!r}")

    def _check_alive(self) -> None:
        if not self.alive:
            raise EngineError(self.failure or "the engine is not running")

    @staticmethod
    def _pass_on(work: EngineWork, message: _Message) -> bool:
        match message:
            case _Submit(job):
                work.accept(job)
            case _Cancel(sequence):
                work.cancel(sequence)
            case _Arrived(part, found):
                work.arrived(part, found)
            case _Drop(own, others, done):
                done(work.drop(own, others))
            case _Stop():
                return False
        return True

    def _shut(self, work: EngineWork, end_all: Callable[[], None]) -> None:
        with self._lock:
            self._alive = False
        end_all()
        # Nothing is accepted any more; what was accepted and not yet seen must end too.
        while True:
            try:
                self._pass_on(work, self._inbox.get_nowait())
            except queue.Empty:
                break
        end_all()

    def _deliver(self, part: PartId, found: StoredPart | None) -> None:
        self._inbox.put(_Arrived(part, found))

    def _closed(self) -> None:
        with self._lock:
            self._room.give_back()
