from pathlib import Path

import pytest
from huggingface_hub import constants

from semantic.adapters.outbound.mlx import default_model, installed_models


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No package, no hub's cache."""
    monkeypatch.setattr(default_model, "packaged", lambda: None)
    hub(tmp_path, monkeypatch)


def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(place))
    return place


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"123")
    return folder


def names(cache: Path) -> list[tuple[str, str]]:
    return [(model.model, model.state) for model in installed_models.installed(cache)]


def test_an_empty_machine_has_none(tmp_path: Path) -> None:
    assert names(tmp_path) == []
    assert installed_models.find("default", tmp_path) is None
    assert installed_models.find("some/model", tmp_path) is None


def test_the_default_model_is_found_converted_or_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = tmp_path / "x.gguf"
    gguf.write_bytes(b"12")
    monkeypatch.setattr(default_model, "packaged", lambda: gguf)
    assert names(tmp_path) == [("default", "installed")]
    make_model(default_model.folder(tmp_path))
    assert names(tmp_path) == [("default", "converted")]
    found = installed_models.find("default", tmp_path)
    assert found is not None
    assert found.bytes == 5


def test_converted_models_are_named_by_their_folders(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "models" / "mine-v1")
    (tmp_path / "models" / "unfinished").mkdir()
    make_model(tmp_path / "models" / ".hidden.tmp")
    assert names(tmp_path) == [(str(folder), "converted")]


def test_the_hubs_models_are_found_if_they_can_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = hub(tmp_path, monkeypatch)
    make_model(place / "models--some--model" / "snapshots" / ("a" * 40))
    (place / "models--other--thing" / "snapshots" / ("b" * 40)).mkdir(parents=True)
    assert names(tmp_path) == [("some/model", "cached")]
    assert installed_models.find("some/model", tmp_path) is not None


def test_a_path_is_a_model_of_its_own(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "here")
    found = installed_models.find(str(folder), tmp_path)
    assert found is not None
    assert (found.place, found.bytes) == (folder, 5)
