"""The specs of models as they are published, at full size, without computing anything.

mlx is lazy: a network whose weights are never evaluated takes no memory, and its caches have
their shapes all the same.
"""

from collections.abc import Mapping
from typing import Any, Final

import mlx.core as mx
import pytest
from mlx.utils import tree_map
from mlx_lm.utils import _get_classes

from semantic.adapters.outbound.mlx import cache_probe
from semantic.adapters.outbound.mlx.declared_cache import contradictions
from semantic.domain.block import PartKind
from semantic.domain.cache_spec import (
    AttentionLayer,
    Granularity,
    KVQuantization,
    LayerKind,
    ModelCacheSpec,
    RecurrentLayer,
    blocks_behind,
)

MIB: Final = 1 << 20

PUBLISHED: Final[Mapping[str, Mapping[str, Any]]] = {
    "Llama 3.1 8B": {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    "Qwen 2.5 7B": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-6,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
    },
    "Qwen 3 8B": {
        "model_type": "qwen3",
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    },
    "Gemma 3 12B": {
        "model_type": "gemma3",
        "vocab_size": 262208,
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 3840,
            "num_hidden_layers": 48,
            "intermediate_size": 15360,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 1024,
            "sliding_window_pattern": 6,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
    },
    "GPT-OSS 20B": {
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "num_hidden_layers": 24,
        "intermediate_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": 201088,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "rope_theta": 150000,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
        },
    },
    "DeepSeek V3": {
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "num_hidden_layers": 61,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 3,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "vocab_size": 129280,
        "max_position_embeddings": 163840,
        "rope_scaling": {
            "type": "yarn",
            "factor": 40,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
    },
    "Qwen3-Next 80B": {
        "model_type": "qwen3_next",
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "intermediate_size": 5120,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "linear_num_value_heads": 32,
        "linear_num_key_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "full_attention_interval": 4,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 512,
        "moe_intermediate_size": 512,
        "mlp_only_layers": [],
        "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
        "rope_theta": 10000000,
        "partial_rotary_factor": 0.25,
        "max_position_embeddings": 262144,
    },
}


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModelCacheSpec:
    """The spec of the model that a test names, in float16; its arguments agree."""
    config = dict(PUBLISHED[request.param])
    monkeypatch.setattr(mx, "eval", lambda *_: None)
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    model.update(tree_map(lambda leaf: leaf.astype(mx.float16), model.parameters()))
    spec = cache_probe.probe(model)
    assert spec is not None
    assert contradictions(model, spec) == ()
    return spec


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("probed", [name], indirect=True)


@pytest.mark.parametrize(
    ("probed", "layers", "bytes_per_token"),
    [
        ("Llama 3.1 8B", (32, AttentionLayer(8, 128, 128, "F16")), 128 * 1024),
        ("Qwen 2.5 7B", (28, AttentionLayer(4, 128, 128, "F16")), 56 * 1024),
        ("Qwen 3 8B", (36, AttentionLayer(8, 128, 128, "F16")), 144 * 1024),
        ("DeepSeek V3", (61, AttentionLayer(1, 512, 64, "F16")), 61 * (512 + 64) * 2),
    ],
    indirect=["probed"],
)
def test_full_attention(
    probed: ModelCacheSpec, layers: tuple[int, AttentionLayer], bytes_per_token: int
) -> None:
    count, layer = layers
    assert probed == ModelCacheSpec((layer,) * count)
    assert probed.bytes_per_token == bytes_per_token
    assert probed.nbytes(PartKind.FULL) == 256 * bytes_per_token
    assert probed.granularity is Granularity.BLOCK
    assert probed.resume_rule.anywhere


@of("Gemma 3 12B")
def test_gemma_3_12b(probed: ModelCacheSpec) -> None:
    full = AttentionLayer(8, 256, 256, "F16")
    sliding = AttentionLayer(8, 256, 256, "F16", window=1024)
    assert probed.layers == ((sliding,) * 5 + (full,)) * 8
    assert full.nbytes(256) == sliding.nbytes(256) == 2 * MIB
    assert full.nbytes(256, KVQuantization(bits=8, group_size=64)) == 1.0625 * MIB
    assert probed.nbytes(PartKind.FULL) == 16 * MIB
    assert probed.nbytes(PartKind.SLIDING) == 80 * MIB
    assert blocks_behind(probed.windows[0]) == 4


@of("GPT-OSS 20B")
def test_gpt_oss_20b(probed: ModelCacheSpec) -> None:
    full = AttentionLayer(8, 64, 64, "F16")
    sliding = AttentionLayer(8, 64, 64, "F16", window=128)
    assert probed.layers == (sliding, full) * 12
    assert probed.bytes_per_token == 24 * 1024
    # Of a block's 256 tokens the last 127 are all that a window sees.
    assert probed.nbytes(PartKind.SLIDING) == 127 * 24 * 1024
    assert blocks_behind(probed.windows[0]) == 1


@of("Qwen3-Next 80B")
def test_qwen3_next_80b(probed: ModelCacheSpec) -> None:
    kinds = [layer.kind for layer in probed.layers]
    assert kinds == ([LayerKind.RECURRENT] * 3 + [LayerKind.FULL]) * 12
    assert probed.granularity is Granularity.SNAPSHOT
    assert probed.bytes_per_token == 12 * 2 * (256 + 256) * 2
    (state,) = {layer for layer in probed.layers if isinstance(layer, RecurrentLayer)}
    assert [array.shape for array in state.arrays] == [(1, 3, 8192), (1, 32, 128, 128)]
    assert probed.nbytes(PartKind.STATE) == 36 * state.nbytes
