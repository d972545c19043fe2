"""Which models are on this machine. Looks; fetches and converts nothing."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from semantic.adapters.outbound.mlx import default_model
from semantic.adapters.outbound.mlx.model_source import DEFAULT, WEIGHTS


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model's files. `model` is what to ask for; `state` says in which form they are here."""

    model: str
    state: str
    """`converted` (ours), `cached` (the hub's) or `installed` (a Python package)."""
    place: Path
    bytes: int


def installed(cache_dir: Path) -> tuple[InstalledModel, ...]:
    """All models found, the default one first."""
    return (*_default(cache_dir), *_converted(cache_dir), *_from_hub())


def find(model_id: str, cache_dir: Path) -> InstalledModel | None:
    """The model that `model_id` names in the settings, if it needs no download."""
    if model_id == DEFAULT:
        return next(iter(_default(cache_dir)), None)
    path = Path(model_id).expanduser()
    if path.is_file():
        return InstalledModel(model_id, "installed", path, path.stat().st_size)
    if path.is_dir():
        return InstalledModel(model_id, "installed", path, _bytes_below(path))
    return next((model for model in _from_hub() if model.model == model_id), None)


def _default(cache_dir: Path) -> list[InstalledModel]:
    converted = default_model.folder(cache_dir)
    if converted.is_dir():
        return [InstalledModel(DEFAULT, "converted", converted, _bytes_below(converted))]
    packaged = default_model.packaged()
    if packaged is not None:
        return [InstalledModel(DEFAULT, "installed", packaged, packaged.stat().st_size)]
    return []


def _converted(cache_dir: Path) -> list[InstalledModel]:
    default = default_model.folder(cache_dir)
    return [
        InstalledModel(str(path), "converted", path, _bytes_below(path))
        for path in sorted((cache_dir / "models").glob("[!.]*"))
        if path != default and _is_model(path)
    ]


def _from_hub() -> list[InstalledModel]:
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return [
        InstalledModel(repository.repo_id, "cached", repository.repo_path, repository.size_on_disk)
        for repository in sorted(repositories, key=lambda found: found.repo_id)
        if repository.repo_type == "model"
        and any(_is_model(revision.snapshot_path) for revision in repository.revisions)
    ]


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob(WEIGHTS))


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
