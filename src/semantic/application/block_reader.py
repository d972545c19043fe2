"""Reading blocks off the engine's thread. Bytes cross threads, arrays do not.

A disk may hang for ever, and takes the thread that asked it along. Those that wait for the rest
give such reads up: then other threads are started in their place, as many again as there are at
most. Invariant: `done` is called once for each read that is not withdrawn, if the disk answers.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from semantic.application.rates import Rate
from semantic.domain.block import PartId, StoredPart
from semantic.domain.errors import SemanticError
from semantic.domain.ids import Namespace
from semantic.ports.block_store import BlockStore
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry

Done = Callable[[PartId, StoredPart | None], None]


@dataclass(slots=True, eq=False)
class _Read:
    """A part to be read; under way since `began`, given up if it is `stuck`."""

    namespace: Namespace
    part: PartId
    nbytes: int
    done: Done
    context: Context = field(default_factory=copy_context)
    began: float = 0.0
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class ReadPace:
    """Bytes a second of all reading threads together, and bytes that are still to be read."""

    bytes_a_second: float
    bytes_ahead: int


class BlockReader:
    """Owns the reading threads: `threads`, and as many in the place of those that hang."""

    def __init__(self, store: BlockStore, threads: int, clock: Clock, telemetry: Telemetry) -> None:
        self._store = store
        self._threads = threads
        self._clock = clock
        self._telemetry = telemetry
        self._changed = threading.Condition()
        self._waiting: deque[_Read] = deque()
        self._under_way: list[_Read] = []
        self._num_threads = 0
        self._closed = False
        self._rate = Rate()
        self._counted_at = 0.0

    @property
    def hangs(self) -> bool:
        """Whether there is no thread left that could read."""
        with self._changed:
            return self._num_stuck >= 2 * self._threads

    def pace(self) -> ReadPace | None:
        """How fast reading goes; None if that is not known."""
        with self._changed:
            now = self._clock.monotonic()
            silent_s = now - self._counted_at if self._num_stuck < len(self._under_way) else 0.0
            found = self._rate.per_second(now, silent_s=silent_s)
            if found is None:
                return None
            ahead = sum(read.nbytes for read in (*self._waiting, *self._under_way))
            return ReadPace(found, ahead)

    def read(self, namespace: Namespace, parts: Mapping[PartId, int], done: Done) -> None:
        """Read `parts`, about so many bytes each, after all that was asked for before.

        `done` is called once for each, from a reading thread, in any order. A part that is
        absent, damaged or foreign comes as None, with a warning.

        Raises:
            RuntimeError: if it is closed.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the reader is closed")
            self._waiting.extend(
                _Read(namespace, part, nbytes, done) for part, nbytes in parts.items()
            )
            self._staff()

    def withdraw(self, parts: Iterable[PartId]) -> tuple[PartId, ...]:
        """Do not read these any more; return those that had not begun, the others will come."""
        wanted = frozenset(parts)
        with self._changed:
            gone = tuple(read.part for read in self._waiting if read.part in wanted)
            self._waiting = deque(read for read in self._waiting if read.part not in wanted)
            return gone

    def give_up(self, parts: Iterable[PartId], before: float) -> None:
        """Count on these reads no longer, nor on any that was under way at that time already.

        Their threads are taken for lost until they come back.
        """
        wanted = frozenset(parts)
        with self._changed:
            self._count(0)
            for read in self._under_way:
                read.stuck |= read.part in wanted or read.began <= before
            self._staff()

    def close(self) -> None:
        """Start no more reads."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    @property
    def _num_stuck(self) -> int:
        return sum(read.stuck for read in self._under_way)

    @property
    def _allowed(self) -> int:
        """Threads that may be there."""
        return min(self._threads + self._num_stuck, 2 * self._threads)

    def _staff(self) -> None:
        """Have threads for all that waits, as far as they are allowed; wake those there are."""
        idle = self._num_threads - len(self._under_way)
        lacking = min(len(self._waiting) - idle, self._allowed - self._num_threads)
        for _ in range(max(0, lacking)):
            self._num_threads += 1
            # Of a hung disk's threads nobody must have to wait for the end.
            threading.Thread(target=self._run, name="block-reader", daemon=True).start()
        self._changed.notify_all()

    def _run(self) -> None:
        while (read := self._next()) is not None:
            found = read.context.run(self._found, read)
            self._finished(read, found)
            read.done(read.part, found)

    def _next(self) -> _Read | None:
        with self._changed:
            # One that comes back from a hung disk may find its place taken.
            while not self._closed and self._num_threads <= self._allowed:
                if self._waiting:
                    read = self._waiting.popleft()
                    self._count(0)
                    read.began = self._counted_at
                    self._under_way.append(read)
                    return read
                self._changed.wait()
            self._num_threads -= 1
            return None

    def _finished(self, read: _Read, found: StoredPart | None) -> None:
        with self._changed:
            self._count(found.nbytes if found and not read.stuck else 0)
            self._under_way.remove(read)

    def _count(self, nbytes: int) -> None:
        """So much has come since it was counted last. Time in which nobody reads is not counted."""
        now = self._clock.monotonic()
        if self._num_stuck < len(self._under_way):
            self._rate.count(nbytes, now - self._counted_at, now)
        self._counted_at = now

    def _found(self, read: _Read) -> StoredPart | None:
        named = {"key": read.part.key, "part": read.part.kind.value}
        try:
            found = self._store.get(read.namespace, read.part)
            if found is None:
                self._telemetry.warning("block_unusable", **named, error="not in the store")
        except SemanticError as error:
            self._telemetry.warning("block_unusable", **named, error=str(error))
        except Exception as error:  # noqa: BLE001 - whatever the disk does, the request goes on
            self._telemetry.error("block_unusable", **named, error=repr(error))
        else:
            return found
        return None
