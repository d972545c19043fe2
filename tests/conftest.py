"""What tests share: the default model, and the BLAS that the server computes with."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.mlx import blas

_SCRATCH = tempfile.mkdtemp(prefix="semantic-tests-")
_CACHE = Path(os.environ.get("SEMANTIC_TEST_CACHE") or _SCRATCH).absolute()

# Before any test module can import mlx; one thread, so that every run computes the same.
blas.preload(_CACHE, threads=1)


def pytest_unconfigure() -> None:

    shutil.rmtree(_SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session")
def model_cache_dir() -> Path:
    """A cache folder for the whole run, or for many if SEMANTIC_TEST_CACHE names one."""
    return _CACHE


@pytest.fixture(scope="session")
def default_model_dir(model_cache_dir: Path) -> Path:
    """The folder of the default model, converted."""
    from semantic.adapters.outbound.mlx import default_model  # noqa: PLC0415 - imports mlx

    return default_model.prepare(model_cache_dir, RecordedTelemetry())
