"""One tiny configuration for each family of models that mlx-lm can run.

Owns the table; `random_models.make_model` builds a network from an entry. Layers are dense where
a family allows it, because mlx has no mixture of experts in bfloat16 on CPUs.
"""

from collections.abc import Mapping
from typing import Any, Final

from mlx.nn.layers.base import Module
from mlx.nn.layers.quantized import quantize
from mlx_lm.models.switch_layers import SwitchLinear
from tests.fakes.random_models import VOCABULARY

WINDOW: Final = 32

_BASE: Final[Mapping[str, Any]] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
_LATENT: Final[Mapping[str, Any]] = {  # multi-head latent attention
    "num_key_value_heads": 4,
    "kv_lora_rank": 24,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
}
_GATED_DELTA: Final[Mapping[str, Any]] = {
    "head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
}
_GEMMA3_TEXT: Final[Mapping[str, Any]] = {
    **_BASE,
    "model_type": "gemma3_text",
    "num_hidden_layers": 4,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": WINDOW,
    "sliding_window_pattern": 2,
}

FAMILIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama": {  # 3.1
        **_BASE,
        "model_type": "llama",
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 512,
        },
    },
    "qwen2": {**_BASE, "model_type": "qwen2"},
    "qwen3": {**_BASE, "model_type": "qwen3", "num_hidden_layers": 3, "head_dim": 16},
    "gemma3_text": _GEMMA3_TEXT,
    "gemma3": {
        "model_type": "gemma3",
        "text_config": dict(_GEMMA3_TEXT),
        "vocab_size": VOCABULARY,
    },
    "gpt_oss": {
        **_BASE,
        "model_type": "gpt_oss",
        "num_hidden_layers": 4,
        "intermediate_size": 32,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 1024,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
        },
    },
    "deepseek_v2": {
        **_BASE,
        **_LATENT,
        "model_type": "deepseek_v2",
        "first_k_dense_replace": 2,
        "n_routed_experts": 4,
        "rope_scaling": {
            "type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 1024,
            "mscale": 0.7,
            "mscale_all_dim": 0.7,
        },
    },
    "deepseek_v3": {
        **_BASE,
        **_LATENT,
        "model_type": "deepseek_v3",
        "first_k_dense_replace": 2,
        "n_routed_experts": 4,
    },
    "qwen3_5": {
        "model_type": "qwen3_5",
        "text_config": {
            **_BASE,
            **_GATED_DELTA,
            "model_type": "qwen3_5_text",
            "num_hidden_layers": 4,
            "rope_parameters": {
                "type": "default",
                "mrope_section": [1, 1, 0],
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.25,
            },
        },
    },
    "qwen3_next": {
        **_BASE,
        **_GATED_DELTA,
        "model_type": "qwen3_next",
        "num_hidden_layers": 4,
        "num_experts": 0,
        "num_experts_per_tok": 0,
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 0,
        "mlp_only_layers": [],
        "moe_intermediate_size": 0,
        "partial_rotary_factor": 0.25,
    },
}
"""By a name that tells variants of one model type apart."""


def with_window(config: Mapping[str, Any], window: int) -> Mapping[str, Any]:
    """`config` with another sliding window; inside a multimodal wrapper too."""
    if "text_config" in config:
        return {**config, "text_config": dict(with_window(config["text_config"], window))}
    if "sliding_window" not in config:
        raise ValueError(f"{config['model_type']} has no sliding window")
    return {**config, "sliding_window": window}


def runnable_in_bfloat16(model: Module) -> Module:
    """`model` itself, its experts' weights rounded to 8 bits in place."""
    quantize(model, group_size=32, bits=8, class_predicate=_is_experts)
    return model


def _is_experts(_: str, module: Module) -> bool:
    return isinstance(module, SwitchLinear)
