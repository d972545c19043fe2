"""From the configured model to a folder on this machine.

Owns the order in which places are tried, and the name that a model is served under. Knows
nothing of what is in the files.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from semantic.adapters.outbound.mlx import default_model, gguf_import, hub_download
from semantic.domain.errors import ModelLoadError, ModelNotFoundError
from semantic.ports.telemetry import Telemetry

DEFAULT = "default"
"""The configured id that stands for the model that comes with the server."""

WEIGHTS = "model*.safetensors"
"""What mlx-lm loads."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model's files. `model_id` is the name it is served under."""

    path: Path
    model_id: str
    created: int
    """Seconds since the epoch; when the configuration file was made."""


def resolve(model_id: str, cache_dir: Path, telemetry: Telemetry) -> ResolvedModel:
    """Find a model, fetching or converting it if need be.

    Args:
        model_id: "default"; a folder; a GGUF file; or a name on the Hugging Face hub. A folder
            or file goes before a hub name that looks the same.
        cache_dir: where converted models are kept.
        telemetry: told of what takes time.

    Raises:
        ModelNotFoundError: naming every place looked at.
        ModelLoadError: if what is there is not a model that can be used.
    """
    if model_id == DEFAULT:
        return _in_folder(default_model.prepare(cache_dir, telemetry), default_model.MODEL_ID)
    tried: tuple[str, ...] = ()
    if path := _as_path(model_id):
        if path.is_dir():
            return _in_folder(path, path.resolve().name)
        if path.is_file():
            return _in_file(path, cache_dir, telemetry)
        tried = (f"the path {path.absolute()}",)
    if not _may_be_on_hub(model_id):
        raise ModelNotFoundError(model_id, tried=(*tried, "no hub: not a name that one can have"))
    return _in_folder(hub_download.fetch(model_id, telemetry, tried), model_id)


def _as_path(model_id: str) -> Path | None:
    if not model_id or "\0" in model_id:
        return None
    try:
        return Path(model_id).expanduser()
    except RuntimeError:  # no such user's home
        return Path(model_id)


def _may_be_on_hub(model_id: str) -> bool:
    meant_as_path = model_id.startswith(("/", ".", "~")) or model_id.endswith(".gguf")
    return not meant_as_path and hub_download.may_have(model_id)


def _in_folder(path: Path, name: str) -> ResolvedModel:
    missing = [what for what in ("config.json", WEIGHTS, "tokenizer*") if not any(path.glob(what))]
    if missing:
        raise ModelLoadError(f"{path} is not a model for mlx-lm: it has no {', '.join(missing)}")
    created = int((path / "config.json").stat().st_mtime)
    return ResolvedModel(path=path, model_id=name, created=created)


def _in_file(path: Path, cache_dir: Path, telemetry: Telemetry) -> ResolvedModel:
    if path.suffix != ".gguf":
        raise ModelLoadError(f"{path} is a file; a model is a folder or a .gguf file")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = f"{path.stem[:80]}-{digest[:12]}-v{gguf_import.CONVERTER_VERSION}"
        target = cache_dir / "models" / name
        if not target.is_dir():
            telemetry.info("model_conversion_started", model=path.stem)
        gguf_import.convert(path, target)
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be converted: {error}") from error
    return _in_folder(target, path.stem)
