"""A fast BLAS for MLX on a Linux CPU.

MLX's CPU wheel bundles the reference BLAS, some thirty times slower than OpenBLAS. A library
whose symbols are global before `mlx.core` is imported takes its place; so this module must run
first, and must not import mlx itself. Invariant: OpenBLAS is loaded here before mlx, or never.
"""

import ctypes
import os
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from semantic.adapters.outbound.mlx import blas_threads, cache_files

_OPENBLAS = "cmeel-openblas"
_CUDA_BUILDS = ("mlx-cuda-12", "mlx-cuda-13")
_FORTRAN = "libgfortran.so.5"
"""What OpenBLAS asks for by name, and a bare machine lacks."""


@dataclass(frozen=True, slots=True)
class Blas:
    """The BLAS that MLX computes with. Without a `name` it is MLX's own, and `reason` says why."""

    name: str | None = None
    path: Path | None = None
    core: str | None = None
    """The kernels that OpenBLAS chose for this CPU."""
    threads: int | None = None
    reason: str | None = None


def preload(cache_dir: Path, threads: int) -> Blas:
    """Load OpenBLAS in place of MLX's own BLAS; to be called before `mlx.core` is imported.

    May be called again, then only the thread count changes. Never raises: what fails is reported
    in the value.

    Args:
        cache_dir: where a patched library and the choice of threads are kept.
        threads: how many to use; 0 measures once on this machine, and remembers.
    """
    try:
        return _preload(cache_dir, threads)
    except (OSError, LookupError, AttributeError) as error:
        return Blas(reason=f"OpenBLAS could not be loaded: {error}")


def _preload(cache_dir: Path, threads: int) -> Blas:
    if sys.platform != "linux":
        return Blas(reason="the system has its own")
    if cuda := _first_installed(_CUDA_BUILDS):
        return Blas(reason=f"{cuda} computes on the GPU")
    path = _file_of(_OPENBLAS, "libopenblas.so")
    library = _already_loaded(path)
    if library is None:
        if "mlx.core" in sys.modules:
            return Blas(reason="mlx.core was imported before OpenBLAS could be loaded")
        library = _load(path, cache_dir)
    return _configured(library, path, cache_dir, threads)


def _configured(library: ctypes.CDLL, path: Path, cache_dir: Path, threads: int) -> Blas:
    library.openblas_get_config.restype = ctypes.c_char_p
    library.openblas_get_corename.restype = ctypes.c_char_p
    version = " ".join(library.openblas_get_config().decode().split())
    reason = None
    if not threads:
        try:
            threads = blas_threads.choose(library, version, cache_dir / "blas.json")
        except OSError as error:
            threads, reason = 1, f"one thread, as a measured choice cannot be kept: {error}"
    library.openblas_set_num_threads(threads)
    return Blas(
        name=" ".join(version.split()[:2]),
        path=path,
        core=library.openblas_get_corename().decode(),
        threads=library.openblas_get_num_threads(),
        reason=reason,
    )


def _load(path: Path, cache_dir: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        if _FORTRAN not in str(error):
            raise
    _load_fortran(cache_dir)
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _load_fortran(cache_dir: Path) -> None:
    """Load the Fortran runtime of MLX's wheel under the name that OpenBLAS asks for.

    The wheel's copy carries a hash in its name. The loader goes by the name inside the file
    (DT_SONAME), so a copy with that string overwritten satisfies it.
    """
    source = _file_of("mlx-cpu", "libgfortran-*")
    image = source.read_bytes()
    name = source.name.encode() + b"\0"
    if image.count(name) != 1:
        message = f"{source.name} does not name itself once"
        raise LookupError(message)
    image = image.replace(name, _FORTRAN.encode().ljust(len(name), b"\0"))
    copy = cache_dir / "blas" / source.name
    if not copy.is_file() or copy.read_bytes() != image:
        cache_files.write_file(copy, image)
    if quadmath := _files_of("mlx-cpu", "libquadmath-*"):
        ctypes.CDLL(str(quadmath[0]), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(copy), mode=ctypes.RTLD_GLOBAL)


def _already_loaded(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | ctypes.RTLD_GLOBAL)
    except OSError:
        return None


def _first_installed(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        if any(True for _ in metadata.distributions(name=name)):
            return name
    return None


def _file_of(distribution: str, pattern: str) -> Path:
    files = _files_of(distribution, pattern)
    if not files:
        message = f"{distribution} has no file {pattern}"
        raise LookupError(message)
    return files[0]


def _files_of(distribution: str, pattern: str) -> list[Path]:
    """Files of an installed distribution by name.

    Raises:
        LookupError: if it is not installed.
    """
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError as error:
        message = f"{distribution} is not installed"
        raise LookupError(message) from error
    return [Path(str(found.locate_file(f))) for f in found.files or () if f.match(pattern)]
