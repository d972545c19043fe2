"""A disk that records every change: which system calls were made, in which order, who asked.

Stands in for the functions of `os` through which a store changes anything, under one folder.
Everything really happens, but for `fsync`. SQLite makes its own calls: of it the moments count at
which it has committed, with the bytes that its files have then.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import ParamSpec

import pytest

from semantic.adapters.outbound.storage import index_schema
from semantic.adapters.outbound.storage.block_index import BlockIndex

Inode = int
"""A file or a folder, whatever its names. 0 is the folder that everything happens in."""

Place = tuple[Inode, str]
"""A name in a folder."""

BASE: Inode = 0

_INNER = ("durable_file", "store_folder")
"""Modules that sync for others: a call is told apart by who asked them."""

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Named:
    """Names lead somewhere else from now on, or nowhere. `durable`: that is so at once."""

    changes: tuple[tuple[Place, Inode | None], ...]
    durable: bool = False
    folder: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes were added to a file."""

    inode: Inode
    data: bytes


@dataclass(frozen=True, slots=True)
class Synced:
    """A file's bytes, or the names in a folder, were synced; `site` is who asked for what."""

    inode: Inode
    site: str


@dataclass(frozen=True, slots=True)
class Committed:
    """A database's files as they are after a commit."""

    inode: Inode
    database: bytes
    log: bytes | None
    log_inode: Inode | None


@dataclass(frozen=True, slots=True)
class Marked:
    """What the workload says: that something begins, or that it has been acknowledged."""

    what: object


Op = Named | Written | Synced | Committed | Marked


class Killed(BaseException):
    """The process is dead: it does nothing any more, not even tidy up."""


class RecordedDisk:
    """Records what happens under `base`, which must be there."""

    def __init__(self, base: Path, patch: pytest.MonkeyPatch) -> None:
        self.trace: list[Op] = []
        self.base = base
        self._names: dict[Place, Inode] = {}
        self._next = BASE + 1
        self._open_files: dict[int, Path] = {}
        self._calls_left: int | None = None
        self._dead = False
        self._real_open, self._real_write = os.open, os.write
        for name, stand_in in {
            "open": self._open,
            "write": self._write,
            "fsync": self._fsync,
            "mkdir": self._after(os.mkdir, self._made),
            "rename": self._after(os.rename, self._renamed),
            "link": self._after(os.link, self._linked),
            "unlink": self._after(os.unlink, self._unlinked),
        }.items():
            patch.setattr(os, name, stand_in)
        for name in ("add", "remove", "use"):
            patch.setattr(BlockIndex, name, self._committing(getattr(BlockIndex, name)))

    def mark(self, what: object) -> None:
        """Note something between the calls."""
        self.trace.append(Marked(what))

    def kill_after(self, calls: int) -> None:
        """Let the process die instead of making one more change."""
        self._calls_left = calls

    def revive(self) -> bool:
        """A new process begins. Whether the last one was killed."""
        was_dead, self._dead, self._calls_left = self._dead, False, None
        return was_dead

    def _alive(self) -> None:
        if self._calls_left is not None and not self._dead:
            self._dead = self._calls_left == 0
            self._calls_left -= 1
        if self._dead:
            raise Killed

    def _new(self) -> Inode:
        self._next += 1
        return self._next - 1

    def _place(self, path: str | Path) -> Place | None:
        """Where a path is; None if that is not under the base."""
        try:
            parts = Path(path).relative_to(self.base).parts
        except ValueError:
            return None
        if not parts:
            return None
        folder = BASE
        for name in parts[:-1]:
            folder = self._names[folder, name]
        return folder, parts[-1]

    def _inode(self, path: str | Path) -> Inode | None:
        if Path(path) == self.base:
            return BASE
        place = self._place(path)
        return None if place is None else self._names.get(place)

    def _name(
        self,
        *changes: tuple[Place, Inode | None],
        durable: bool = False,
        folder: bool = False,
    ) -> None:
        for place, inode in changes:
            if inode is None:
                self._names.pop(place, None)
            else:
                self._names[place] = inode
        self.trace.append(Named(changes, durable, folder))

    def _open(self, path: str | Path, flags: int, mode: int = 0o777) -> int:
        place = self._place(path)
        creates = place is not None and bool(flags & os.O_CREAT) and place not in self._names
        if creates:
            self._alive()
        descriptor = self._real_open(path, flags, mode)
        if creates and place is not None:
            self._name((place, self._new()))
        self._open_files[descriptor] = Path(path)
        return descriptor

    def _write(self, descriptor: int, data: bytes | memoryview) -> int:
        inode = self._inode(self._open_files[descriptor])
        if inode is None:
            return self._real_write(descriptor, data)
        self._alive()
        count = self._real_write(descriptor, data)
        self.trace.append(Written(inode, bytes(data[:count])))
        return count

    def _fsync(self, descriptor: int) -> None:
        self._alive()
        path = self._open_files[descriptor]
        inode = self._inode(path)
        if inode is None:
            return
        if path.name.startswith(index_schema.FILE):
            self._snapshot(path)
        self.trace.append(Synced(inode, _site(sys._getframe(1), self._role(path))))

    def _role(self, path: Path) -> str:
        """Which file or folder it is, and how deep, the names that come by chance left out."""
        parts = path.relative_to(self.base).parts
        known = {"blk", "agents", "tmp", "quarantine", index_schema.FILE}
        parts = tuple(part.removesuffix(".new") for part in parts)
        return "/".join(part if part in known else "*" for part in parts) or "."

    def _after(self, real: Callable[P, None], note: Callable[P, None]) -> Callable[P, None]:
        def stand_in(*args: P.args, **kwargs: P.kwargs) -> None:
            self._alive()
            real(*args, **kwargs)
            note(*args, **kwargs)

        return stand_in

    def _made(self, path: str | Path, _mode: int = 0o777) -> None:
        if place := self._place(path):
            self._name((place, self._new()), folder=True)

    def _renamed(self, source: str | Path, target: str | Path) -> None:
        old, new = self._place(source), self._place(target)
        if old and new:
            self._name((new, self._names[old]), (old, None))

    def _linked(self, source: str | Path, target: str | Path, **_: object) -> None:
        old, new = self._place(source), self._place(target)
        if old and new:
            self._name((new, self._names[old]))

    def _unlinked(self, path: str | Path) -> None:
        if place := self._place(path):
            self._name((place, None))

    def _committing(self, real: Callable[P, None]) -> Callable[P, None]:
        def stand_in(*args: P.args, **kwargs: P.kwargs) -> None:
            self._alive()
            real(*args, **kwargs)
            (index,) = args[:1]
            assert isinstance(index, BlockIndex)
            _, _, path = index._writer.execute("PRAGMA database_list").fetchone()
            self._snapshot(Path(path))

        return stand_in

    def _snapshot(self, path: Path) -> None:
        log = path.with_name(f"{path.name}-wal")
        inode, place = self._inode(path), self._place(log)
        assert inode is not None
        assert place is not None
        if log.exists() and place not in self._names:
            self._name((place, self._new()), durable=True)  # SQLite syncs the folder itself
        self.trace.append(
            Committed(
                inode,
                path.read_bytes(),
                log.read_bytes() if log.exists() else None,
                self._names.get(place),
            )
        )


def _site(frame: FrameType | None, role: str) -> str:
    """Who asked for a sync, from the inside out to the first who does not do it for others."""
    names: list[str] = []
    while frame is not None:
        module = Path(frame.f_code.co_filename)
        if module.parent.name == "storage":
            names.append(frame.f_code.co_qualname)
            if module.stem not in _INNER:
                break
        frame = frame.f_back
    asked = [name for name in names if name not in ("sync", "order")]
    return f"{' < '.join(asked)} [{role}]"


def without(trace: Sequence[Op], site: str) -> list[Op]:
    """The trace of code that does not sync there."""
    return [op for op in trace if not (isinstance(op, Synced) and op.site == site)]
