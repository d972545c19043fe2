"""Whether a server would run well here: what was found, and what to do about it.

Looks and measures; changes nothing but the caches that every start fills.
"""

import enum
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from semantic.adapters.config.settings import Settings
from semantic.adapters.outbound.mlx import blas
from semantic.adapters.outbound.storage import disk_speed

_SLOW_MATMUL = 5.0
"""GFLOP/s. MLX's own BLAS reaches one or two, OpenBLAS twenty and more a core."""
_SLOW_DISK = 100e6
"""Bytes a second: below it, restoring an agent takes seconds."""
_LITTLE_SPACE = 5e9
_NO_SPACE = 500e6
_MEGA, _GIGA = 1e6, 1e9


class Health(enum.Enum):
    """How bad it is: `WARNING` works and could be better, `WRONG` does not work."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` says what to do, unless all is well."""

    name: str
    health: Health
    detail: str
    advice: str | None = None


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Look at everything in turn. No check spoils another: one that fails is a finding."""
    store, cache = settings.store.path, settings.model.cache_path
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("blas", lambda: _blas(cache, settings.engine.blas_threads)),
        ("backend", _backend),
        ("matmul", _matmul),
        ("model", lambda: _model(settings.model.id, cache)),
        ("store", lambda: _folder("store", store, private=True)),
        ("cache", lambda: _folder("cache", cache, private=False)),
        ("disk speed", lambda: _disk(store)),
        ("free disk", lambda: _space(store)),
        ("memory", lambda: _memory(settings.store.hot_bytes + settings.store.queue_bytes)),
    )
    for name, check in checks:
        try:
            yield check()
        except Exception as error:  # noqa: BLE001 - whatever is broken, the rest is still looked at
            yield Finding(name, Health.WRONG, repr(error), "mend that and run doctor again")


def _blas(cache: Path, threads: int) -> Finding:
    chosen = blas.preload(cache, threads)
    if chosen.name is None:
        lacking = str(chosen.reason).startswith("OpenBLAS could not be loaded")
        advice = (
            "reinstall it (pip install --force-reinstall cmeel-openblas); without it MLX is slow"
        )
        detail = f"MLX's own: {chosen.reason}"
        return Finding("blas", Health.WRONG, detail, advice) if lacking else _ok("blas", detail)
    detail = f"{chosen.name}, {chosen.core} kernels, {chosen.threads} threads"
    if chosen.reason:
        advice = "make the cache folder writable, or set engine.blas_threads"
        return Finding("blas", Health.WARNING, f"{detail} ({chosen.reason})", advice)
    return _ok("blas", detail)


def _backend() -> Finding:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        # Importing MLX binds its BLAS, so it comes after `_blas`.
        from semantic.adapters.outbound.mlx.model_loader import backend  # noqa: PLC0415
    except ImportError as error:
        advice = "reinstall semantic with its dependencies; GPU builds need a matching driver"
        return Finding("backend", Health.WRONG, f"MLX cannot be loaded: {error}", advice)
    return _ok("backend", backend())


def _matmul() -> Finding:
    from semantic.adapters.outbound.mlx import matmul_rate  # noqa: PLC0415 - it loads MLX

    rate = matmul_rate.measure()
    detail = f"{rate:.0f} GFLOP/s (float32)"
    if rate < _SLOW_MATMUL:
        advice = "see blas above; or the machine is busy with something else"
        return Finding("matmul", Health.WARNING, detail, advice)
    return _ok("matmul", detail)


def _model(model_id: str, cache: Path) -> Finding:
    from semantic.adapters.outbound.mlx import installed_models  # noqa: PLC0415 - it loads MLX

    found = installed_models.find(model_id, cache)
    if found is not None:
        return _ok("model", f"{model_id}: {found.state}, {found.place}")
    if model_id.startswith(("/", ".", "~")):
        advice = "set model.id to a folder that is there, or to 'default'"
        return Finding("model", Health.WRONG, f"{model_id} is not there", advice)
    detail = f"{model_id} is not on this machine"
    return Finding(
        "model", Health.WARNING, detail, "the first start fetches it: that needs network"
    )


def _folder(name: str, path: Path, *, private: bool) -> Finding:
    existing = _existing(path)
    if not existing.is_dir():
        return Finding(name, Health.WRONG, f"{existing} is not a folder", "choose another folder")
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        advice = "give it to the user who runs semantic, or choose another folder"
        return Finding(name, Health.WRONG, f"{existing} cannot be written", advice)
    if existing != path:
        return _ok(name, f"{path} (made at the first start)")
    mode = stat.S_IMODE(path.stat().st_mode)
    detail = f"{path}, mode {mode:o}"
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Finding(name, Health.WRONG, f"{detail}: others may change it", f"chmod go-w {path}")
    if private and mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding(name, Health.WARNING, f"{detail}: others may look in", f"chmod 700 {path}")
    return _ok(name, detail)


def _disk(store: Path) -> Finding:
    folder = _existing(store)
    try:
        speed = disk_speed.measure(folder)
    except OSError as error:
        detail = f"{folder} cannot be written: {error.strerror}"
        return Finding("disk speed", Health.WRONG, detail, "see store above")
    detail = f"{speed.written / _MEGA:.0f} MB/s written, {speed.read / _MEGA:.0f} MB/s read"
    if min(speed.written, speed.read) < _SLOW_DISK:
        advice = "put the store on a faster disk (store.dir)"
        return Finding("disk speed", Health.WARNING, detail, advice)
    return _ok("disk speed", detail)


def _space(store: Path) -> Finding:
    free = shutil.disk_usage(_existing(store)).free
    detail = f"{free / _GIGA:.1f} GB"
    advice = "free some, forget agents (semantic agents delete), or move the store (store.dir)"
    if free < _NO_SPACE:
        return Finding("free disk", Health.WRONG, detail, advice)
    if free < _LITTLE_SPACE:
        return Finding("free disk", Health.WARNING, detail, advice)
    return _ok("free disk", detail)


def _memory(wanted: int) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    detail = f"{total / _GIGA:.1f} GB, of which blocks may take {wanted / _GIGA:.1f} GB"
    if wanted > total / 2:
        advice = "lower store.hot_bytes or store.queue_bytes"
        return Finding("memory", Health.WARNING, detail, advice)
    return _ok("memory", detail)


def _ok(name: str, detail: str) -> Finding:
    return Finding(name, Health.OK, detail)


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = path.absolute()
    return next(found for found in (path, *path.parents) if os.path.lexists(found))
