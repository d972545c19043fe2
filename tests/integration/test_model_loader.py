"""From files to a running executor, with real and with small models."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import gemma3_text
from mlx_lm.models.cache import RotatingKVCache
from tests.fakes import random_models
from tests.fakes.model_families import FAMILIES, WINDOW, with_window
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.mlx import model_loader
from semantic.adapters.outbound.mlx.cache_probe import probe
from semantic.adapters.outbound.mlx.model_loader import MlxModelLoader, load_weights
from semantic.domain.cache_spec import (
    AttentionLayer,
    CacheIdentity,
    Granularity,
    KVQuantization,
    ModelCacheSpec,
)
from semantic.domain.errors import ModelLoadError, ModelNotFoundError
from semantic.domain.ids import Namespace, SequenceId, TokenId
from semantic.domain.sampling import SamplingParams
from semantic.domain.step_plan import PrefillChunk, StepPlan
from semantic.ports.model_executor import ModelExecutor
from semantic.ports.model_loader import LoadedModel

LLAMA = random_models.LLAMA
Change = Callable[[Path], object]


def load(
    folder: Path,
    cache: Path,
    telemetry: RecordedTelemetry | None = None,
    kv_bits: int | None = None,
) -> LoadedModel:
    loader = MlxModelLoader(
        str(folder),
        cache,
        batch_limit=4,
        telemetry=telemetry or RecordedTelemetry(),
        kv_bits=kv_bits,
    )
    return loader.load()


def answer(executor: ModelExecutor, prompt: tuple[TokenId, ...], count: int) -> list[TokenId]:
    me = SequenceId(1)
    executor.attach(me, (), (), SamplingParams(temperature=0))
    executor.run(StepPlan((), PrefillChunk(me, prompt, last=True)))
    return [executor.run(StepPlan((me,))).sampled[0].token for _ in range(count)]


def namespace(folder: Path, cache: Path) -> Namespace:
    return load(folder, cache).executor.capabilities.namespace


def set_config(**values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def with_last_byte_changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.fixture(scope="module")
def loaded(default_model_dir: Path, model_cache_dir: Path) -> LoadedModel:
    return load(default_model_dir, model_cache_dir)


class TestDefaultModel:
    def test_is_described_as_it_is(self, loaded: LoadedModel) -> None:
        capabilities = loaded.executor.capabilities
        assert capabilities.granularity is Granularity.BLOCK
        assert capabilities.spec == ModelCacheSpec((AttentionLayer(3, 64, 64, "F32"),) * 30)
        assert capabilities.max_context == 8192
        assert capabilities.max_batch == 4

    def test_answers(self, loaded: LoadedModel) -> None:
        prompt = loaded.tokenizer.encode("The capital of France is")
        text = loaded.tokenizer.decode(answer(loaded.executor, prompt, 3))
        assert "Paris" in text


class TestSmallModels:
    def test_a_llama_shares_batches_and_its_weights_are_widened(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        weights = mx.load(str(folder / "model.safetensors"))
        assert isinstance(weights, dict)
        half = {name: array.astype(mx.bfloat16) for name, array in weights.items()}
        mx.save_safetensors(str(folder / "model.safetensors"), half, {"format": "mlx"})
        loaded = load(folder, tmp_path / "cache")
        capabilities = loaded.executor.capabilities
        assert capabilities.spec == ModelCacheSpec((AttentionLayer(2, 8, 8, "F32"),) * 2)
        assert capabilities.max_batch == 4
        assert loaded.model_id == "m"
        assert len(answer(loaded.executor, (1, 2, 3), 5)) == 5

    def test_an_unproven_type_runs_alone_and_keeps_its_memory(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(
            tmp_path / "m", {**LLAMA, "model_type": "gemma2", "head_dim": 8}
        )
        telemetry = RecordedTelemetry()
        capabilities = load(folder, tmp_path / "cache", telemetry).executor.capabilities
        assert capabilities.granularity is Granularity.BLOCK
        assert capabilities.max_batch == 1
        assert [event for _, event, _ in telemetry.events] == ["model_runs_alone"]

    def test_a_rope_that_depends_on_the_length_runs_alone(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(tmp_path / "m", FAMILIES["llama_dynamic"])
        assert load(folder, tmp_path / "cache").executor.capabilities.max_batch == 1

    @pytest.mark.parametrize(
        ("family", "granularity"),
        [
            ("gemma3_text", Granularity.BLOCK),
            ("gemma3", Granularity.BLOCK),
            ("gpt_oss", Granularity.BLOCK),
            ("deepseek_v3", Granularity.BLOCK),
            ("qwen3_next", Granularity.SNAPSHOT),
        ],
    )
    def test_a_model_with_other_layers_keeps_its_memory_and_shares_batches(
        self, tmp_path: Path, family: str, granularity: Granularity
    ) -> None:
        telemetry = RecordedTelemetry()
        folder = random_models.write_folder(tmp_path / "m", FAMILIES[family])
        loaded = load(folder, tmp_path / "cache", telemetry)
        capabilities = loaded.executor.capabilities
        assert capabilities.granularity is granularity
        assert capabilities.max_batch == 4
        assert telemetry.events == []
        assert len(answer(loaded.executor, tuple(range(40)), 12)) == 12

    def test_a_model_whose_arguments_contradict_its_cache_runs_without_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def make_wider_cache(model: Any) -> list[RotatingKVCache]:
            return [RotatingKVCache(9) for _ in model.layers]  # type: ignore[no-untyped-call]

        monkeypatch.setattr(gemma3_text.Model, "make_cache", make_wider_cache)
        telemetry = RecordedTelemetry()
        folder = random_models.write_folder(tmp_path / "m", FAMILIES["gemma3_text"])
        loaded = load(folder, tmp_path / "cache", telemetry)
        capabilities = loaded.executor.capabilities
        assert capabilities.granularity is Granularity.NONE
        assert capabilities.spec is None
        assert capabilities.max_batch == 1
        assert [(level, event) for level, event, _ in telemetry.events] == [
            ("warning", "model_without_memory"),
            ("warning", "model_runs_alone"),
        ]
        reason = str(telemetry.events[0].fields["reason"])
        assert f"a window is 9 tokens, sliding_window says {WINDOW}" in reason
        assert "layers are sliding sliding sliding sliding" in reason
        assert len(answer(loaded.executor, tuple(range(30)), 12)) == 12

    @pytest.mark.filterwarnings("ignore:`rope_scaling` is deprecated:FutureWarning")
    def test_a_model_that_keeps_what_we_do_not_know_runs_without_memory(
        self, tmp_path: Path
    ) -> None:
        telemetry = RecordedTelemetry()
        folder = random_models.write_folder(tmp_path / "m", FAMILIES["longcat_flash_ngram"])
        loaded = load(folder, tmp_path / "cache", telemetry)
        assert loaded.executor.capabilities.spec is None
        assert telemetry.names() == ["model_without_memory", "model_runs_alone"]
        assert "unknown" in str(telemetry.events[0].fields["reason"])
        assert len(answer(loaded.executor, tuple(range(30)), 12)) == 12

    def test_a_model_belongs_to_the_thread_that_loads_it(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        expected = answer(load(folder, tmp_path / "cache").executor, (1, 2, 3), 5)
        with ThreadPoolExecutor(1) as pool:
            loaded = pool.submit(load, folder, tmp_path / "cache").result()
            assert pool.submit(answer, loaded.executor, (1, 2, 3), 5).result() == expected


class TestQuantisedKV:
    def test_the_spec_says_so_and_every_precision_has_a_namespace(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(tmp_path / "m", {**LLAMA, "head_dim": 64})
        found = []
        for bits in (None, 8, 4, None):
            capabilities = load(folder, tmp_path / "cache", kv_bits=bits).executor.capabilities
            assert capabilities.spec is not None
            expected = KVQuantization(bits, 64) if bits else None
            assert capabilities.spec.quantization == expected
            found.append(capabilities.namespace)
        assert len(set(found)) == 3
        assert found[0] == found[-1]

    def test_narrow_heads_are_refused_by_name(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(tmp_path / "narrow", {**LLAMA, "head_dim": 80})
        with pytest.raises(ModelLoadError) as refused:
            load(folder, tmp_path / "cache", kv_bits=4)
        said = str(refused.value)
        for named in ("narrow", "llama", "store.kv_bits = 4", "width 80", '"none"'):
            assert named in said
        load(folder, tmp_path / "cache")

    @pytest.mark.filterwarnings("ignore:`rope_scaling` is deprecated:FutureWarning")
    def test_a_model_without_memory_is_refused_by_name(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(tmp_path / "m", FAMILIES["longcat_flash_ngram"])
        with pytest.raises(ModelLoadError, match=r"longcat_flash_ngram.*cannot be kept at all"):
            load(folder, tmp_path / "cache", kv_bits=8)


class TestNamespace:
    @pytest.mark.parametrize(
        "change",
        [
            rewrite("model.safetensors", with_last_byte_changed),
            rewrite("tokenizer.json", lambda data: data.replace(b'"0"', b'"zero"')),
            set_config(rope_theta=10001),
        ],
        ids=["weights", "tokenizer", "config"],
    )
    def test_changes_with_what_is_in_the_folder(self, tmp_path: Path, change: Change) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        before = namespace(folder, tmp_path / "cache")
        change(folder)
        assert namespace(folder, tmp_path / "cache") != before

    def test_changes_with_a_byte_even_if_the_file_looks_as_old(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        weights = folder / "model.safetensors"
        before = namespace(folder, tmp_path / "cache")
        stat = weights.stat()
        rewrite(weights.name, with_last_byte_changed)(folder)
        os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert namespace(folder, tmp_path / "cache") != before

    def test_changes_with_the_window(self, tmp_path: Path) -> None:
        """The same weights with a window of another length keep other tokens."""
        found = set()
        for window in (WINDOW, WINDOW + 1):
            config = with_window(FAMILIES["gemma3_text"], window)
            folder = random_models.write_folder(tmp_path / str(window), config)
            capabilities = load(folder, tmp_path / "cache").executor.capabilities
            assert capabilities.spec is not None
            assert capabilities.spec.windows == (window,)
            found.add(capabilities.namespace)
        assert len(found) == 2

    def test_changes_with_the_precision_of_the_weights(self, tmp_path: Path) -> None:
        """Though all is computed in float32 here, the numbers are not those they were."""
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        before = namespace(folder, tmp_path / "cache")
        weights = mx.load(str(folder / "model.safetensors"))
        assert isinstance(weights, dict)
        half = {name: array.astype(mx.bfloat16) for name, array in weights.items()}
        mx.save_safetensors(str(folder / "model.safetensors"), half, {"format": "mlx"})
        assert namespace(folder, tmp_path / "cache") != before

    def test_changes_with_the_backend(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        found = set()
        for backend in ("cpu", "metal", "cuda"):
            monkeypatch.setattr(model_loader, "backend", lambda backend=backend: backend)
            found.add(namespace(folder, tmp_path / "cache"))
        assert len(found) == 3

    def test_changes_with_the_engine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another version may compute otherwise, or order what it keeps."""
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        before = namespace(folder, tmp_path / "cache")
        monkeypatch.setattr(model_loader, "version", lambda name: f"another {name}")
        assert namespace(folder, tmp_path / "cache") != before

    def test_changes_when_memory_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        before = namespace(folder, tmp_path / "cache")
        monkeypatch.setattr(model_loader, "probe", lambda _: None)
        assert namespace(folder, tmp_path / "cache") != before

    @pytest.mark.parametrize(
        "change",
        [{"kv_bits": 8}, {"sharding": "1 of 2"}, {"backend": "cuda"}, {"spec": None}],
        ids=str,
    )
    def test_covers_what_this_loader_does_not_vary(self, change: dict[str, Any]) -> None:
        spec = probe(random_models.make_model(LLAMA))
        identity = CacheIdentity("weights", "config", "tokenizer", spec, "engine", "cpu")
        assert replace(identity, **change).namespace != identity.namespace

    def test_differs_between_element_types_of_one_shape(self) -> None:
        specs = [
            probe(random_models.make_model(LLAMA, dtype=dtype))
            for dtype in (mx.float32, mx.float16, mx.bfloat16)
        ]
        identity = CacheIdentity("weights", "config", "tokenizer", None, "engine", "cpu")
        assert len({replace(identity, spec=spec).namespace for spec in specs}) == 3

    def test_stays_when_the_folder_is_renamed_or_copied(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        before = namespace(folder, tmp_path / "cache")
        renamed = folder.rename(tmp_path / "other name")
        assert namespace(renamed, tmp_path / "cache") == before
        shutil.copytree(renamed, tmp_path / "copy")
        assert namespace(tmp_path / "copy", tmp_path / "another cache") == before

    def test_differs_between_models_of_one_shape(self, tmp_path: Path) -> None:
        folders = [random_models.write_folder(tmp_path / str(n), LLAMA, seed=n) for n in (1, 2)]
        assert len({namespace(folder, tmp_path / "cache") for folder in folders}) == 2

    @pytest.mark.parametrize("content", ["{", "[]", '{"x": 1}'])
    def test_survives_a_damaged_memory_of_digests(self, tmp_path: Path, content: str) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        before = namespace(folder, tmp_path / "cache")
        (tmp_path / "cache" / "digests.json").write_text(content)
        assert namespace(folder, tmp_path / "cache") == before

    def test_needs_no_memory_of_digests(self, tmp_path: Path) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        (tmp_path / "no folder").write_text("")
        assert namespace(folder, tmp_path / "no folder") == namespace(folder, tmp_path / "cache")


def remove(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


class TestBrokenFolders:
    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(remove("config.json"), id="no config"),
            pytest.param(remove("model.safetensors"), id="no weights"),
            pytest.param(remove("tokenizer.json", "tokenizer_config.json"), id="no tokenizer"),
            pytest.param(rewrite("config.json", lambda _: b"{"), id="config is no JSON"),
            pytest.param(rewrite("config.json", lambda _: b"[]"), id="config is no object"),
            pytest.param(rewrite("tokenizer.json", lambda _: b"{"), id="tokenizer is no JSON"),
            pytest.param(rewrite("model.safetensors", lambda data: data[:-9]), id="cut short"),
            pytest.param(rewrite("model.safetensors", lambda _: b""), id="empty weights"),
            pytest.param(set_config(model_type="no such"), id="unknown type"),
            pytest.param(set_config(hidden_size=64), id="other shape"),
            pytest.param(set_config(num_hidden_layers=3), id="missing layer"),
            pytest.param(
                lambda folder: (folder / "x.safetensors").symlink_to("/nonexistent"),
                id="link to nowhere",
            ),
        ],
    )
    def test_are_refused(self, tmp_path: Path, damage: Change) -> None:
        folder = random_models.write_folder(tmp_path / "m", LLAMA)
        damage(folder)
        with pytest.raises(ModelLoadError, match=str(folder)):
            load(folder, tmp_path / "cache")

    def test_a_folder_that_is_not_there_is_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError, match="nothing here"):
            load(tmp_path / "nothing here", tmp_path / "cache")

    def test_weights_of_a_broken_folder_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError):
            load_weights(tmp_path)
