import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_model
from tests.fakes import gguf_file, tiny_llama
from tests.fakes.gguf_file import MXFP4, Metadata, Tensor
from tests.fakes.tiny_llama import Floats

from semantic.adapters.outbound.mlx import gguf_import
from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer
from semantic.domain.errors import ModelLoadError


def converted(tmp_path: Path, encode: Callable[[Floats], Tensor]) -> Path:
    gguf_import.convert(tiny_llama.write(tmp_path / "tiny.gguf", encode), tmp_path / "model")
    return tmp_path / "model"


def convert_changed(
    tmp_path: Path, metadata: Metadata | None = None, tensors: dict[str, Tensor] | None = None
) -> None:
    path = tmp_path / "changed.gguf"
    all_tensors = tiny_llama.tensors(tiny_llama.as_f32) | (tensors or {})
    gguf_file.write(path, tiny_llama.metadata() | (metadata or {}), all_tensors)
    gguf_import.convert(path, tmp_path / "model")


def original_matrix(name: str) -> Floats:
    tensor = tiny_llama.tensors(tiny_llama.as_f32)[name]
    return np.frombuffer(tensor.data, np.float32).reshape(tensor.shape)


@pytest.mark.parametrize(
    ("encode", "bits", "error"),
    [
        (tiny_llama.as_q4_0, 4, 0.08),
        (tiny_llama.as_q4_1, 4, 0.05),
        (tiny_llama.as_q8_0, 8, 0.005),
    ],
)
def test_quantised_weights_stay_quantised_and_mean_the_same(
    tmp_path: Path, encode: Callable[[Floats], Tensor], bits: int, error: float
) -> None:
    folder = converted(tmp_path, encode)
    config = json.loads((folder / "config.json").read_text())
    assert config["quantization"] == {"group_size": 32, "bits": bits}
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    for theirs, ours in (
        ("blk.1.ffn_down", "model.layers.1.mlp.down_proj"),
        ("token_embd", "model.embed_tokens"),
    ):
        packed, scales, biases = (weights[f"{ours}.{p}"] for p in ("weight", "scales", "biases"))
        found = mx.dequantize(packed, scales, biases, group_size=32, bits=bits)
        expected = mx.array(original_matrix(f"{theirs}.weight"))
        assert mx.allclose(found.astype(mx.float32), expected, rtol=0, atol=error).item()


@pytest.mark.parametrize("encode", [tiny_llama.as_f32, tiny_llama.as_f16])
def test_plain_weights_are_kept(tmp_path: Path, encode: Callable[[Floats], Tensor]) -> None:
    folder = converted(tmp_path, encode)
    assert "quantization" not in json.loads((folder / "config.json").read_text())
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    found = weights["model.layers.0.self_attn.q_proj.weight"].astype(mx.float32)
    expected = mx.array(original_matrix("blk.0.attn_q.weight"))
    assert mx.allclose(found, expected, atol=1e-3).item()


def test_mixed_widths_are_named_layer_by_layer(tmp_path: Path) -> None:
    def encode(values: Floats) -> Tensor:
        wide = values.shape[0] == len(tiny_llama.TOKENS)
        return tiny_llama.as_q8_0(values) if wide else tiny_llama.as_q4_1(values)

    config = json.loads((converted(tmp_path, encode) / "config.json").read_text())
    assert config["quantization"] == {
        "group_size": 32,
        "bits": 4,
        "model.embed_tokens": {"group_size": 32, "bits": 8},
    }


@pytest.mark.parametrize("encode", [tiny_llama.as_f32, tiny_llama.as_q4_1])
def test_mlx_lm_runs_what_was_converted(tmp_path: Path, encode: Callable[[Floats], Tensor]) -> None:
    model, _ = load_model(converted(tmp_path, encode))
    logits = model(mx.array([[0, 5, 9]]))
    assert logits.shape == (1, 3, len(tiny_llama.TOKENS))
    assert mx.isfinite(logits).all().item()


def test_separate_output_matrix_is_used(tmp_path: Path) -> None:
    output = np.zeros((len(tiny_llama.TOKENS), tiny_llama.HIDDEN), np.float32)
    convert_changed(tmp_path, tensors={"output.weight": tiny_llama.as_f32(output)})
    model, config = load_model(tmp_path / "model")
    assert config["tie_word_embeddings"] is False
    assert mx.abs(model(mx.array([[3]]))).max().item() == 0


def test_config_says_what_the_file_says(tmp_path: Path) -> None:
    config = json.loads((converted(tmp_path, tiny_llama.as_f32) / "config.json").read_text())
    expected = {
        "hidden_size": tiny_llama.HIDDEN,
        "num_hidden_layers": tiny_llama.BLOCKS,
        "num_key_value_heads": tiny_llama.KV_HEADS,
        "max_position_embeddings": 512,
        "rope_traditional": True,
        "tie_word_embeddings": True,
        "vocab_size": len(tiny_llama.TOKENS),
    }
    assert config | expected == config


def test_control_tokens_are_special_and_user_defined_ones_are_not(tmp_path: Path) -> None:
    tokenizer = MlxTokenizer.load(converted(tmp_path, tiny_llama.as_f32))
    ids = tokenizer.encode(f"{tiny_llama.START}hello{tiny_llama.MARK}{tiny_llama.END}")
    assert (ids[0], ids[-2], ids[-1]) == (0, 2, 1)
    assert tokenizer.decode(ids) == "<|im_start|>hello<mark><|im_end|>"
    stream = tokenizer.decoder()
    assert "".join(map(stream.add, ids)) + stream.finish() == "hello<mark>"
    assert tokenizer.stop_tokens == {1}


def test_digits_are_split_by_smollm_alone(tmp_path: Path) -> None:
    more: Metadata = {
        "tokenizer.ggml.tokens": [*tiny_llama.TOKENS, "12"],
        "tokenizer.ggml.merges": [*tiny_llama.MERGES, "1 2"],
    }
    for pre, count in (("smollm", 2), ("gpt-2", 1), ("default", 1)):
        folder = tmp_path / pre
        folder.mkdir()
        rows = np.ones((len(tiny_llama.TOKENS) + 1, tiny_llama.HIDDEN), np.float32)
        embedding = {"token_embd.weight": tiny_llama.as_f32(rows)}
        convert_changed(folder, more | {"tokenizer.ggml.pre": pre}, embedding)
        assert len(MlxTokenizer.load(folder / "model").encode("12")) == count


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"general.architecture": "mamba"}, "architecture 'mamba'"),
        ({"tokenizer.ggml.pre": "qwen2"}, "pre-tokenizer 'qwen2'"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer 'llama'"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "not distinct"),
        ({"tokenizer.ggml.merges": ["no such"]}, "merges"),
        ({"llama.rope.scaling.type": "yarn"}, "rope scaling 'yarn'"),
        ({"llama.rope.dimension_count": 16}, "rotates a part"),
        ({"llama.block_count": 3}, "lacks 9 tensors"),
        ({"llama.embedding_length": "64"}, "llama.embedding_length"),
    ],
)
def test_refuses_metadata_it_does_not_understand(
    tmp_path: Path, metadata: Metadata, reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        convert_changed(tmp_path, metadata)
    assert not (tmp_path / "model").exists()


def test_refuses_a_tensor_it_does_not_know(tmp_path: Path) -> None:
    factors = {"rope_freqs.weight": tiny_llama.as_f32(np.ones(16, np.float32))}
    with pytest.raises(ModelLoadError, match=r"rope_freqs\.weight"):
        convert_changed(tmp_path, tensors=factors)


def test_refuses_a_tensor_type_that_the_engine_drops_silently(tmp_path: Path) -> None:
    dropped = Tensor(MXFP4, (tiny_llama.HIDDEN, tiny_llama.HIDDEN), bytes(64 * 2 * 17))
    with pytest.raises(ModelLoadError):
        convert_changed(tmp_path, tensors={"blk.0.attn_q.weight": dropped})


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"GGUF\3\0\0\0"])
def test_refuses_a_file_that_is_no_gguf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match="cannot be read"):
        gguf_import.convert(path, tmp_path / "model")


def test_refuses_half_a_file(tmp_path: Path) -> None:
    path = tiny_llama.write(tmp_path / "half.gguf")
    path.write_bytes(path.read_bytes()[:-10_000])
    with pytest.raises(ModelLoadError, match="cannot be read"):
        gguf_import.convert(path, tmp_path / "model")


def test_a_failed_conversion_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError):
        convert_changed(tmp_path, {"tokenizer.ggml.pre": "unheard-of"})
    assert {p.name for p in tmp_path.iterdir()} == {"changed.gguf", ".model.lock"}


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    folder = converted(tmp_path, tiny_llama.as_f32)
    before = (folder / "config.json").stat().st_mtime_ns
    gguf_import.convert(tmp_path / "tiny.gguf", folder)
    assert (folder / "config.json").stat().st_mtime_ns == before
