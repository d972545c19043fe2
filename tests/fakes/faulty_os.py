"""Records the system calls that decide about durability, and lets one of them fail."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from semantic.adapters.outbound.storage import durable_file

Call = tuple[str, str]
"""What was called, and the path that it changed, from the root on."""


class FaultyOs:
    """Stands in for some functions of `os`, and for the platform's way to sync a file."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[Call] = []
        self._root = root
        self._paths: dict[int, str] = {}
        self._fault: tuple[int, int] | None = None
        self._open, self._write, self._sync = os.open, os.write, durable_file.sync
        self._mkdir, self._rename = os.mkdir, os.rename
        patch.setattr(os, "open", self._record_open)
        patch.setattr(os, "write", self._record_write)
        patch.setattr(os, "mkdir", self._record_mkdir)
        patch.setattr(os, "rename", self._record_rename)
        patch.setattr(durable_file, "sync", self._record_sync)

    def fail(self, after: int, error: int = errno.EIO) -> None:
        """Let the call after the next `after` ones fail, once."""
        self._fault = (len(self.calls) + after, error)

    def heal(self) -> None:
        """Let nothing fail any more."""
        self._fault = None

    def _note(self, name: str, path: str | Path) -> None:
        text = str(path).removeprefix(f"{self._root}/")
        number = len(self.calls)
        self.calls.append((name, text))
        if self._fault is not None and number == self._fault[0]:
            error = self._fault[1]
            self._fault = None
            raise OSError(error, os.strerror(error), str(path))

    def _record_open(self, path: str | Path, flags: int, mode: int = 0o777) -> int:
        self._note("open", path)
        descriptor = self._open(path, flags, mode)
        self._paths[descriptor] = str(path)
        return descriptor

    def _record_write(self, descriptor: int, data: memoryview) -> int:
        self._note("write", self._paths[descriptor])
        return self._write(descriptor, data[: max(1, len(data) // 2)])

    def _record_sync(self, descriptor: int) -> None:
        self._note("sync", self._paths[descriptor])
        self._sync(descriptor)

    def _record_mkdir(self, path: Path, mode: int = 0o777) -> None:
        self._note("mkdir", path)
        self._mkdir(path, mode)

    def _record_rename(self, source: Path, target: Path) -> None:
        self._note("rename", target)
        self._rename(source, target)


def count_calls(faults: FaultyOs, action: Callable[[], object]) -> int:
    """How many calls an action makes that could fail."""
    before = len(faults.calls)
    action()
    return len(faults.calls) - before
