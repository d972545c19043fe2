"""A store's folder and its side rooms: where files are prepared, and where damaged ones go.

    <root>/tmp/          files on their way; swept when a store opens
    <root>/quarantine/   what could not be trusted; nothing reads it, an operator may empty it

Invariant: under its final name a file is whole and durable, or it is not there. Knows no formats.
Raises plain `OSError`. One process at a time (see `StoreLock`), any number of its threads.
"""

import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from semantic.adapters.outbound.storage.durable_file import Buffer, sync_directory, write_file
from semantic.adapters.outbound.storage.regular_file import FileIdentity, RegularFile
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.ports.telemetry import Telemetry


class StoreFolder:
    """The part of a folder that one store owns; `owner` tells its temporary files from others'.

    Opening it removes what its last process left unfinished.
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
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.make_directory(self._tmp)
        self.make_directory(self._quarantine)
        self._sweep()

    def make_directory(self, path: Path) -> None:
        """Make a folder under the root, durably and for the owner alone.

        One that is there already is synced too, once: the process that made it may have been
        killed before it could.
        """
        for folder in (*reversed(path.relative_to(self._root).parents[:-1]), path):
            full = self._root / folder
            with suppress(FileExistsError):
                full.mkdir(mode=0o700)
                self._synced.discard(full)
            if full not in self._synced:
                sync_directory(full.parent)
                self._synced.add(full)

    def write_new(self, files: Iterable[tuple[Path, Iterable[Buffer]]]) -> None:
        """Write files, but for those whose name is taken; durable on return, absent on error.

        Each is synced by itself, their folders once each.
        """
        named: list[Path] = []
        with ExitStack() as stack:
            staged = [
                (target, stack.enter_context(self._staged(chunks))) for target, chunks in files
            ]
            stack.enter_context(self._naming)
            try:
                for target, path in staged:
                    if not os.path.lexists(target):
                        path.rename(target)
                        named.append(target)
                for folder in dict.fromkeys(target.parent for target, _ in staged):
                    sync_directory(folder)
            except OSError:
                for target in named:
                    with suppress(OSError):
                        target.unlink()
                raise

    def replace(self, target: Path, chunks: Iterable[Buffer]) -> None:
        """Write a file in the place of one that may exist, which stands again after an error."""
        with self._staged(chunks) as staged, self._naming, self._former(target) as former:
            staged.rename(target)
            try:
                sync_directory(target.parent)
            except OSError:
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
        """Move what cannot be trusted to the quarantine, and report it.

        With an `identity`, only that very file is moved: another thread may have put a healthy
        one in its place. Never raises: who found the damage has that to tell.
        """
        target = self._quarantine / f"{path.name}.{self._next_number()}"
        moved = False
        with self._naming, suppress(OSError):
            found = path.lstat()
            if identity is None or identity == FileIdentity(found.st_dev, found.st_ino):
                path.rename(target)
                moved = True
        self._telemetry.warning(
            f"{self._owner}_set_aside", file=path.name, reason=reason, moved=moved
        )

    @contextmanager
    def _staged(self, chunks: Iterable[Buffer]) -> Iterator[Path]:
        path = self._temporary()
        try:
            write_file(path, chunks)
            yield path
        finally:
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
