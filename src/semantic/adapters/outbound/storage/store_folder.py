"""A store's folder and its side rooms: where files are prepared, and where damaged ones go.

    <root>/tmp/          files on their way; swept when a store opens
    <root>/quarantine/   what could not be trusted; nothing reads it, an operator may empty it

Invariant: under its final name a file is whole and durable, or it is not there. Knows no formats.
Raises plain `OSError`. One process at a time (see `StoreLock`), any number of its threads.
"""

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from semantic.adapters.outbound.storage.durable_file import (
    Buffer,
    sync_directories,
    write_files,
)
from semantic.adapters.outbound.storage.owner_only import close_to_others
from semantic.adapters.outbound.storage.regular_file import FileIdentity, RegularFile
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.ports.telemetry import Telemetry

File = tuple[Path, Iterable[Buffer]]
"""The name that a file is to have, and its bytes."""


class StoreFolder:
    """The part of a folder that one store owns; `owner` tells its temporary files from others'.

    Opening it removes what its last process left unfinished, and closes it to others. That the
    folder itself, which is made if need be, is durable, `StoreLock` has seen to. The side rooms
    need not be: whenever they are gone, they are made anew.
    """

    def __init__(self, root: Path, owner: str, telemetry: Telemetry) -> None:
        self._root = root
        self._owner = owner
        self._telemetry = telemetry
        self._tmp = root / "tmp"
        self._quarantine = root / "quarantine"
        self._numbers = itertools.count()
        self._naming = threading.Lock()
        self._synced: set[Path] = set()
        for folder in (root, self._tmp, self._quarantine):
            _make(folder)
        if closed := close_to_others(root):
            telemetry.info(f"{owner}_store_closed_to_others", entries=closed)
        self._sweep()

    def make_directories(self, *paths: Path) -> None:
        """Make folders under the root, durably and for the owner alone.

        Those that are there already are synced too, once: the process that made them may have
        been killed before it could.
        """
        folders = dict.fromkeys(
            self._root / folder
            for path in paths
            for folder in (*reversed(path.relative_to(self._root).parents[:-1]), path)
        )
        for folder in folders:
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                self._synced.discard(folder)
        new = [folder for folder in folders if folder not in self._synced]
        sync_directories(tuple(dict.fromkeys(folder.parent for folder in new)))
        self._synced.update(new)

    def write_new(self, files: Sequence[File]) -> None:
        """Write files, but for those whose name is taken; durable on return, absent on error.

        All are written, then all synced, then all named, and their folders synced once each.
        """
        named: list[Path] = []
        with self._staged(files) as staged, self._naming:
            try:
                for target, path in staged:
                    if not os.path.lexists(target):
                        path.rename(target)
                        named.append(target)
                sync_directories(_folders(files))
            except OSError:
                for target in named:
                    with suppress(OSError):
                        target.unlink()
                raise

    def replace(self, files: Sequence[File]) -> None:
        """Write files in the place of some that may exist, which stand again after an error."""
        with self._staged(files) as staged, self._naming, ExitStack() as stack:
            formers: list[tuple[Path, Path]] = []
            try:
                for target, path in staged:
                    former = stack.enter_context(self._former(target))
                    path.rename(target)
                    formers.append((target, former))
                sync_directories(_folders(files))
            except OSError:
                for target, former in reversed(formers):
                    if former.exists():
                        former.rename(target)
                    else:
                        target.unlink()
                raise

    @contextmanager
    def opened(self, path: Path) -> Iterator[RegularFile]:
        """Open a file for reading; one that turns out not to be what it should is set aside."""
        identity: FileIdentity | None = None
        with ExitStack() as stack:
            try:
                file = stack.enter_context(RegularFile(path))
                identity = file.identity
                yield file
            except (CacheCorruptionError, IncompatibleCacheError) as error:
                self.set_aside(path, identity, str(error))
                raise

    def set_aside(self, path: Path, identity: FileIdentity | None, reason: str) -> None:
        """Move what cannot be trusted to the quarantine, or remove it, and report it.

        With an `identity`, only that very file is moved: another thread may have put a healthy
        one in its place. Never raises: who found the damage has that to tell. Where a disk allows
        neither, the file is still there on return.
        """
        moved = removed = False
        with self._naming, suppress(OSError):
            found = path.lstat()
            if identity is None or identity == FileIdentity(found.st_dev, found.st_ino):
                moved = self._quarantined(path)
                if not moved:
                    path.unlink()
                    removed = True
        self._telemetry.warning(
            f"{self._owner}_set_aside",
            file=path.name,
            reason=reason,
            moved=moved,
            removed=removed,
        )

    def _quarantined(self, path: Path) -> bool:
        """Move a file to the quarantine, if that is possible."""
        with suppress(OSError):
            _make(self._quarantine)
            path.rename(self._quarantine / f"{path.name}.{self._next_number()}")
            return True
        return False

    @contextmanager
    def _staged(self, files: Sequence[File]) -> Iterator[list[tuple[Path, Path]]]:
        """Each file's name-to-be and where it lies meanwhile, its bytes on their way for good."""
        staged = [(target, self._temporary()) for target, _ in files]
        _make(self._tmp)
        try:
            write_files(
                [(path, chunks) for (_, path), (_, chunks) in zip(staged, files, strict=True)]
            )
            yield staged
        finally:
            for _, path in staged:
                with suppress(OSError):
                    path.unlink()

    @contextmanager
    def _former(self, target: Path) -> Iterator[Path]:
        """A second name for the file at `target`; not there if that has none or can have none."""
        path = self._temporary()
        with suppress(OSError):
            path.hardlink_to(target)
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink()

    def _temporary(self) -> Path:
        return self._tmp / f"{self._owner}-{self._next_number()}"

    def _next_number(self) -> str:
        """Unique in this folder: no two processes that share it have one id at one time."""
        return f"{os.getpid()}-{next(self._numbers)}"

    def _sweep(self) -> None:
        stale = sorted(self._tmp.glob(f"{self._owner}-*"))
        for path in stale:
            with suppress(OSError):
                path.unlink()
        if stale:
            self._telemetry.info(f"{self._owner}_tmp_swept", files=len(stale))


def _make(folder: Path) -> None:
    """Make a folder for the owner alone, if it is not there."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _folders(files: Sequence[File]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(target.parent for target, _ in files))
