"""Each start is a process of its own: a library once loaded stays."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from semantic.adapters.outbound.mlx import blas, blas_threads

linux_cpu = pytest.mark.skipif(
    not any(metadata.distributions(name="cmeel-openblas")),
    reason="OpenBLAS is used on a Linux CPU",
)

_START = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from semantic.adapters.outbound.mlx import blas
{before}
loaded = blas.preload(Path(sys.argv[1]), {threads})
{after}
print(json.dumps(asdict(loaded), default=str))
"""
_TIME_MLX = """
import time
import mlx.core as mx
a = mx.ones((512, 512)); mx.eval(a, a @ a)
start = time.perf_counter(); mx.eval(a @ a)
print(time.perf_counter() - start, file=sys.stderr)
"""


def start(
    cache_dir: Path, *, threads: int = 1, before: str = "", after: str = ""
) -> tuple[dict[str, str | int | None], str]:
    script = _START.format(before=before, after=after, threads=threads)
    done = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-c", script, str(cache_dir)], check=True, capture_output=True, text=True
    )
    loaded: dict[str, str | int | None] = json.loads(done.stdout)
    return loaded, done.stderr


@linux_cpu
def test_mlx_computes_with_openblas(tmp_path: Path) -> None:
    loaded, seconds = start(tmp_path, after=_TIME_MLX)
    assert str(loaded["name"]).startswith("OpenBLAS ")
    assert loaded["core"]
    assert (loaded["threads"], loaded["reason"]) == (1, None)
    _, seconds_without = start(tmp_path, before="blas._OPENBLAS = 'absent'", after=_TIME_MLX)
    assert float(seconds) * 3 < float(seconds_without)


@linux_cpu
def test_thread_count_is_measured_once(tmp_path: Path) -> None:
    first, _ = start(tmp_path, threads=0)
    known = json.loads((tmp_path / "blas.json").read_text())
    assert list(known.values()) == [first["threads"]]
    other = 2 if first["threads"] == 1 else 1
    (tmp_path / "blas.json").write_text(json.dumps(dict.fromkeys(known, other)))
    second, _ = start(tmp_path, threads=0)
    assert second["threads"] == other


@linux_cpu
def test_a_damaged_memory_is_measured_anew(tmp_path: Path) -> None:
    (tmp_path / "blas.json").write_text('{"half')
    loaded, _ = start(tmp_path, threads=0)
    assert list(json.loads((tmp_path / "blas.json").read_text()).values()) == [loaded["threads"]]


@linux_cpu
def test_a_second_call_only_sets_the_threads(tmp_path: Path) -> None:
    loaded, _ = start(tmp_path, before="blas.preload(Path(sys.argv[1]), 2); import mlx.core")
    assert (loaded["threads"], loaded["reason"]) == (1, None)


@linux_cpu
def test_coming_too_late_is_reported(tmp_path: Path) -> None:
    loaded, _ = start(tmp_path, before="import mlx.core")
    assert loaded["name"] is None
    assert "mlx.core was imported before" in str(loaded["reason"])


@linux_cpu
def test_a_cache_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    loaded, _ = start(occupied, threads=0)
    assert loaded["reason"]
    assert loaded["threads"] in {None, 1}


@linux_cpu
def test_a_library_that_was_changed_in_the_cache_is_written_again(tmp_path: Path) -> None:
    start(tmp_path)
    for copy in tmp_path.glob("blas/*"):
        copy.write_bytes(b"not a library")
    loaded, _ = start(tmp_path)
    assert loaded["name"]


def test_missing_packages_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(blas, "_OPENBLAS", "no-such-distribution")
    monkeypatch.setattr(blas, "_CUDA_BUILDS", ())
    loaded = blas.preload(tmp_path, 1)
    assert loaded.name is None
    assert "no-such-distribution is not installed" in str(loaded.reason)


def test_nothing_is_loaded_where_a_gpu_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(blas, "_CUDA_BUILDS", ("no-such-build", "pytest"))
    assert blas.preload(tmp_path, 1) == blas.Blas(reason="pytest computes on the GPU")


def test_nothing_is_loaded_on_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert blas.preload(tmp_path, 1).reason == "the system has its own"


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0, 2: 0.5, 4: 0.3}, 4),
        ({1: 1.0, 2: 0.5, 4: 0.49}, 2),
        ({1: 1.0, 2: 1.5, 4: 0.97}, 1),
        ({1: 1.0}, 1),
    ],
)
def test_fewer_threads_win_a_near_tie(seconds: dict[int, float], chosen: int) -> None:
    assert blas_threads.fastest(list(seconds), seconds.__getitem__) == chosen


def test_one_slow_moment_does_not_decide() -> None:
    calls: list[int] = []

    def seconds_with(count: int) -> float:
        calls.append(count)
        return 60.0 if len(calls) == 2 else 1.0 / count

    assert blas_threads.fastest([1, 2], seconds_with) == 2
