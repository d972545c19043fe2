"""Responses on disk: `<root>/responses/<hash>.json`, one file each, replaced as a whole.

Only who has the store's secret can compute that hash from a tenant and an id. Invariant: what is
kept is within the limits after every call; what was used last is kept longest. Across a restart,
a file's time tells when it was used.
"""

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from semantic.adapters.outbound.storage import secret_file
from semantic.adapters.outbound.storage.durable_file import sync_directory
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.adapters.outbound.storage.response_format import decode, encode
from semantic.adapters.outbound.storage.store_folder import StoreFolder
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.ids import TenantId
from semantic.domain.stored_response import ResponseId, StoredResponse
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry

_USE_NOTED_S: Final = 3600.0
"""How old the noted use of a file may get: a long chain is not to cost a system call a link."""


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """`max_age_s` is since the last use."""

    max_count: int
    max_bytes: int
    max_age_s: float


@dataclass(slots=True)
class _Kept:
    size: int
    used: float
    noted: float


class ResponseFiles:
    """The port `ResponseStore` over a folder, which `StoreLock` must hold.

    Raises:
        CachePersistenceError: if the folder cannot be made or read, or lacks its secret.
    """

    def __init__(
        self, root: Path, limits: ResponseLimits, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._secret = secret_file.opened(root)
        self._limits = limits
        self._clock = clock
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._responses = root / "responses"
        try:
            self._folder = StoreFolder(root, "response", telemetry)
            self._folder.make_directories(self._responses)
            self._kept = _found(self._responses)
        except OSError as error:
            raise CachePersistenceError(f"the store {root} cannot be opened: {error}") from error
        self._bytes = sum(kept.size for kept in self._kept.values())
        with self._lock:
            self._make_room()

    def save(self, response: StoredResponse) -> None:
        """Keep a response; see the port."""
        data = encode(response)
        if len(data) > self._limits.max_bytes:
            raise CachePersistenceError(
                f"response {response.id} has {len(data)} bytes, more than all may have together"
            )
        path = self._path(response.tenant, response.id)
        try:
            self._folder.make_directories(self._responses)
            self._folder.replace([(path, (data,))])
        except OSError as error:
            raise CachePersistenceError(
                f"response {response.id} could not be written: {error}"
            ) from error
        now = self._clock.time()
        with suppress(OSError):
            os.utime(path, (now, now))
        with self._lock:
            self._forget(path.name)
            self._kept[path.name] = _Kept(len(data), now, noted=now)
            self._bytes += len(data)
            self._make_room()

    def load(self, tenant: TenantId, response: ResponseId) -> StoredResponse | None:
        """A tenant's response; see the port. One that is damaged is set aside and reported."""
        path = self._path(tenant, response)
        try:
            with self._folder.opened(path) as file:
                found = self._read(file)
                _refuse_other(found, tenant, response)
        except (FileNotFoundError, CacheCorruptionError, IncompatibleCacheError):
            with self._lock:
                self._forget(path.name)
            return None
        except OSError as error:
            self._telemetry.warning("response_unreadable", file=path.name, reason=str(error))
            raise CachePersistenceError(
                f"response {response} could not be read: {error}"
            ) from error
        self._use(path)
        return found

    def delete(self, tenant: TenantId, response: ResponseId) -> bool:
        """Forget a response; see the port."""
        path = self._path(tenant, response)
        try:
            path.unlink()
            sync_directory(path.parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CachePersistenceError(
                f"response {response} could not be removed: {error}"
            ) from error
        with self._lock:
            self._forget(path.name)
        return True

    def _read(self, file: RegularFile) -> StoredResponse:
        # What is larger than all may be is nothing that was written under these limits.
        if file.size > self._limits.max_bytes:
            raise CacheCorruptionError(f"a response of {file.size} bytes")
        return decode(file.read(file.size, 0))

    def _path(self, tenant: TenantId, response: ResponseId) -> Path:
        return self._responses / f"{self._secret.response_name(tenant, response)}.json"

    def _use(self, path: Path) -> None:
        now = self._clock.time()
        with self._lock:
            kept = self._kept.get(path.name)
            if kept is None:
                return
            kept.used = now
            self._kept.move_to_end(path.name)
            if now - kept.noted < _USE_NOTED_S:
                return
            kept.noted = now
        with suppress(OSError):
            os.utime(path, (now, now))

    def _forget(self, name: str) -> None:
        if kept := self._kept.pop(name, None):
            self._bytes -= kept.size

    def _make_room(self) -> None:
        """Remove what is too old or too much; called with the lock held.

        It need not be durable: what comes back after power loss is removed again.
        """
        limits, oldest = self._limits, self._clock.time() - self._limits.max_age_s
        removed = 0
        while self._kept:
            name, kept = next(iter(self._kept.items()))
            full = len(self._kept) > limits.max_count or self._bytes > limits.max_bytes
            if not full and kept.used >= oldest:
                break
            with suppress(OSError):
                (self._responses / name).unlink()
            self._forget(name)
            removed += 1
        if removed:
            self._telemetry.info("responses_removed", responses=removed)


def _refuse_other(found: StoredResponse, tenant: TenantId, response: ResponseId) -> None:
    if (found.tenant, found.id) != (tenant, response):
        raise IncompatibleCacheError(f"this is response {found.id}")


def _found(folder: Path) -> OrderedDict[str, _Kept]:
    """What lies in the folder, the longest unused first."""
    found: list[tuple[float, str, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
                told = entry.stat(follow_symlinks=False)
                found.append((told.st_mtime, entry.name, told.st_size))
    return OrderedDict((name, _Kept(size, used, noted=used)) for used, name, size in sorted(found))
