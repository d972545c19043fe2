"""Makes any call that a store makes of the system fail, or wait until it is let go on.

Stands in for functions of `os`, and for statements of SQLite. Only calls about a store's folder
count. What fails is not done; what is let go on is done then.
"""

import errno
import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ERRORS = (errno.EIO, errno.ENOSPC, errno.EMFILE)

_BY_PATH = ("mkdir", "unlink", "rmdir", "listdir", "scandir", "stat", "lstat", "statvfs")
_BY_TWO = ("rename", "link")
_BY_DESCRIPTOR = ("pread", "write", "pwrite", "fsync", "ftruncate")
_SAID = {
    errno.EIO: "disk I/O error",
    errno.ENOSPC: "database or disk is full",
    errno.EMFILE: "unable to open database file",
}
"""What SQLite says of them."""

_PATIENCE_S = 60.0


@dataclass
class Stall:
    """A call that came to the gate waits there until it is opened."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        self.reached.set()
        self.opened.wait(_PATIENCE_S)


@dataclass
class FailingCalls:
    """Counts calls; `calls` are those since `begin`. Which of them fail, the methods say.

    A call is named by what it is and by which of the store's folders it is about: `open blk`.
    """

    root: Path
    calls: list[str] = field(default_factory=list)
    failed: int = 0
    _at: int | None = None
    _fault: "int | Stall | None" = None
    _luck: random.Random | None = None
    _share: float = 0.0
    _paths: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, at: int | None = None, fault: "int | Stall | None" = None) -> None:
        """Count anew; let the call number `at` meet its fault."""
        with self._lock:
            self.calls.clear()
            self._at, self._fault, self._luck = at, fault, None

    def begin_at_random(self, luck: random.Random, share: float) -> None:
        """Let such a share of all calls fail."""
        with self._lock:
            self.calls.clear()
            self._at, self._luck, self._share = None, luck, share

    @contextmanager
    def patched(self) -> Iterator["FailingCalls"]:
        """Stand in for the system meanwhile."""
        with pytest.MonkeyPatch.context() as patch:
            for name in (*_BY_PATH, *_BY_TWO):
                patch.setattr(os, name, self._by_path(name, getattr(os, name)))
            for name in _BY_DESCRIPTOR:
                patch.setattr(os, name, self._by_descriptor(name, getattr(os, name)))
            patch.setattr(os, "open", self._opening(os.open))
            patch.setattr(os, "close", self._closing(os.close))
            patch.setattr(sqlite3, "connect", self._connecting(sqlite3.connect))
            yield self

    def _meet(self, name: str, path: object = None) -> None:
        if path is not None:
            name = f"{name} {self._folder(path)}".strip()
        with self._lock:
            number = len(self.calls)
            self.calls.append(name)
            fault = self._fault if number == self._at else None
            if self._luck is not None and self._luck.random() < self._share:
                fault = self._luck.choice(ERRORS)
            self.failed += fault is not None
        if isinstance(fault, Stall):
            fault.wait()
        elif fault is not None:
            if name.startswith("sqlite"):
                raise sqlite3.OperationalError(_SAID[fault])
            raise OSError(fault, os.strerror(fault))

    def _counts(self, path: object) -> bool:
        if isinstance(path, int):
            return path in self._paths
        return isinstance(path, (str, os.PathLike)) and Path(os.fspath(path)).is_relative_to(
            self.root
        )

    def _folder(self, path: object) -> str:
        if isinstance(path, int):
            return self._paths[path]
        assert isinstance(path, (str, os.PathLike))
        inside = Path(os.fspath(path)).relative_to(self.root).parts
        return inside[0] if inside else ""

    def _by_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *others: Any, **options: Any) -> Any:
            if self._counts(path):
                self._meet(name, path)
            return real(path, *others, **options)

        return call

    def _by_descriptor(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, *others: Any) -> Any:
            if self._counts(descriptor):
                self._meet(name, descriptor)
            return real(descriptor, *others)

        return call

    def _opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, *others: Any, **options: Any) -> int:
            counts = self._counts(path)
            if counts:
                self._meet("open", path)
            descriptor = real(path, *others, **options)
            if counts:
                self._paths[descriptor] = self._folder(path)
            return descriptor

        return call

    def _closing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            self._paths.pop(descriptor, None)
            real(descriptor)

        return call

    def _connecting(self, real: Callable[..., sqlite3.Connection]) -> Callable[..., Any]:
        meet = self._meet

        class Cursor(sqlite3.Cursor):
            def execute(self, sql: str, *values: Any) -> "Cursor":
                if sql != "ROLLBACK":  # it undoes what failed, and asks nothing of the disk
                    meet(f"sqlite {sql.split(maxsplit=1)[0]}")
                super().execute(sql, *values)
                return self

        class Connection(sqlite3.Connection):
            def cursor(self, *_: Any) -> Cursor:  # type: ignore[override]
                return super().cursor(Cursor)

        def call(*where: Any, **options: Any) -> sqlite3.Connection:
            return real(*where, factory=Connection, **options)

        return call
