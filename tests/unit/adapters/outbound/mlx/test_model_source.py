from pathlib import Path

import pytest
from tests.fakes import tiny_llama
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.mlx import gguf_import, hub_download
from semantic.adapters.outbound.mlx.model_source import ResolvedModel, resolve
from semantic.domain.errors import ModelLoadError, ModelNotFoundError


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub has integration tests of its own; here, being asked at all is the answer."""

    def asked(model_id: str, _: object, tried: tuple[str, ...]) -> Path:
        raise ModelNotFoundError(model_id, tried=(*tried, "hub"))

    monkeypatch.setattr(hub_download, "fetch", asked)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gguf_import.convert(tiny_llama.write(tmp_path / "made.gguf"), tmp_path / "my-model")
    return tmp_path / "my-model"


def found(model_id: str | Path, cache_dir: Path) -> ResolvedModel:
    return resolve(str(model_id), cache_dir, RecordedTelemetry())


def places_tried(model_id: str, cache_dir: Path) -> tuple[str, ...]:
    with pytest.raises(ModelNotFoundError) as caught:
        found(model_id, cache_dir)
    return caught.value.tried


def test_default_is_the_model_that_comes_along(
    default_model_dir: Path, model_cache_dir: Path
) -> None:
    model = found("default", model_cache_dir)
    assert (model.path, model.model_id) == (default_model_dir, "smollm2-135m-instruct")
    assert model.created == int((default_model_dir / "config.json").stat().st_mtime)


def test_a_folder_is_served_under_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(folder, tmp_path).model_id == "my-model"
    monkeypatch.chdir(folder.parent)
    assert found("my-model", tmp_path).path.resolve() == folder.resolve()
    monkeypatch.chdir(folder)
    assert found(".", tmp_path).model_id == "my-model"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("config.json", r"config\.json"),
        ("model.safetensors", r"model\*\.safetensors"),
    ],
)
def test_a_folder_that_lacks_files_is_refused(
    folder: Path, tmp_path: Path, file: str, said: str
) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelLoadError, match=said):
        found(folder, tmp_path)


def test_a_gguf_file_is_converted_once_for_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "tiny.gguf", tmp_path / "elsewhere" / "tiny.gguf"
    second.parent.mkdir()
    tiny_llama.write(first)
    second.write_bytes(first.read_bytes())
    model = found(first, tmp_path / "cache")
    assert model.model_id == "tiny"
    assert found(second, tmp_path / "cache") == model
    tiny_llama.write(first, tiny_llama.as_f16)
    assert found(first, tmp_path / "cache").path != model.path


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.touch()
    with pytest.raises(ModelLoadError, match=r"a folder or a \.gguf file"):
        found(path, tmp_path)


def test_a_converted_file_needs_a_cache_that_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot be converted"):
        found(tiny_llama.write(tmp_path / "a.gguf"), tmp_path / "a.gguf")


@pytest.mark.parametrize("model_id", ["/no/such/folder", "./no", "../no", "~/no/such", "no.gguf"])
def test_a_path_is_not_asked_of_the_hub(model_id: str, tmp_path: Path) -> None:
    tried = places_tried(model_id, tmp_path)
    assert str(Path(model_id).expanduser().absolute()) in tried[0]
    assert "hub" not in tried


@pytest.mark.parametrize(
    "model_id",
    ["", "a/b/c", "a//b", "owner/", "a b", "ü/model", "a..b", "~nobody-has-this/x", "x\0y"],
)
def test_a_name_that_the_hub_cannot_have_is_not_found(model_id: str, tmp_path: Path) -> None:
    assert "hub" not in places_tried(model_id, tmp_path)


@pytest.mark.parametrize("model_id", ["gpt2", "mlx-community/Some_Model-4bit.v1"])
def test_another_name_is_asked_of_the_hub(model_id: str, tmp_path: Path) -> None:
    assert places_tried(model_id, tmp_path)[-1] == "hub"
