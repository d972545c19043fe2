"""How many threads OpenBLAS uses here.

Owns the choice, which is made once for a machine and kept: another count adds numbers in another
order, so that a restored conversation could differ in its last bits from the one that was left.
"""

import contextlib
import ctypes
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from semantic.adapters.outbound.mlx import cache_files

_ROWS, _INNER, _COLUMNS = 256, 576, 1536
"""A prefill chunk through a feed-forward layer of the default model."""
_REPETITIONS = 15
_WORTH_A_THREAD = 0.95
"""More threads are taken only if they need less than this share of the time."""
_SPARE = 1
"""Cores left to MLX's other work, the server's threads and everybody else: OpenBLAS's threads wait
for each other in a loop, and all of them slow down manyfold if one does not get its core."""
_ROW_MAJOR, _NO_TRANSPOSE = 101, 111


def choose(library: ctypes.CDLL, version: str, memory: Path) -> int:
    """The thread count remembered in the file `memory`, or measured now and remembered.

    `version` names the library's build. Leaves the library's own setting anywhere.

    Raises:
        OSError: if the choice cannot be kept. The caller must then use one thread, the only
            count that is the same at every start.
    """
    cores = _usable_cores()
    key = f"{_cpu_model()} / {cores - _SPARE} of {cores} cores / {version}"
    with cache_files.locked(memory.with_suffix(".lock")):
        known = _read(memory)
        if key not in known:
            library.openblas_set_num_threads(max(1, cores - _SPARE))
            most = library.openblas_get_num_threads()  # a build has its own limit
            known[key] = fastest(list(_candidates(most)), _stopwatch(library))
            cache_files.write_file(memory, json.dumps(known, indent=2).encode())
    return known[key]


def fastest(candidates: list[int], seconds_with: Callable[[int], float]) -> int:
    """The count whose median time is lowest, fewer threads winning a near tie.

    Candidates ascend. They are timed in turns, so that a neighbour's load meets all of them.
    """
    times: dict[int, list[float]] = {count: [] for count in candidates}
    for _ in range(_REPETITIONS):
        for count in candidates:
            times[count].append(seconds_with(count))
    best = candidates[0]
    for count in candidates[1:]:
        if _median(times[count]) < _median(times[best]) * _WORTH_A_THREAD:
            best = count
    return best


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _candidates(most: int) -> Iterator[int]:
    count = 1
    while count < most:
        yield count
        count *= 2
    yield most


def _stopwatch(library: ctypes.CDLL) -> Callable[[int], float]:
    a = (ctypes.c_float * (_ROWS * _INNER))()
    b = (ctypes.c_float * (_INNER * _COLUMNS))()
    c = (ctypes.c_float * (_ROWS * _COLUMNS))()
    scale = (ctypes.c_float(1.0), ctypes.c_float(0.0))

    def multiply() -> None:
        library.cblas_sgemm(
            *(_ROW_MAJOR, _NO_TRANSPOSE, _NO_TRANSPOSE, _ROWS, _COLUMNS, _INNER),
            *(scale[0], a, _INNER, b, _COLUMNS, scale[1], c, _COLUMNS),
        )

    def seconds_with(count: int) -> float:
        library.openblas_set_num_threads(count)
        multiply()  # wakes the threads
        start = time.perf_counter()
        multiply()
        return time.perf_counter() - start

    return seconds_with


def _read(memory: Path) -> dict[str, int]:
    """What was chosen before; nothing if the file is missing or damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        known = json.loads(memory.read_bytes())
        if isinstance(known, dict):
            return {k: v for k, v in known.items() if isinstance(v, int) and v > 0}
    return {}


def _usable_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in {"model name", "CPU part"}:
                return value.strip()
    return platform.machine()
