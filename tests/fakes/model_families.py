"""One tiny configuration for each family of models that mlx-lm can run.

Owns the table; `random_models.make_model` builds a network from an entry. Layers are dense where
a family allows it, because mlx has no mixture of experts in bfloat16 on CPUs.

Families call the same size by different names, and mlx-lm passes over names that it does not
know. So `_BASE` spells every size in all of them, and an entry adds what is its own.
"""

from collections.abc import Mapping
from typing import Any, Final

from mlx.nn.layers.base import Module
from mlx.nn.layers.quantized import quantize
from mlx_lm.models.switch_layers import SwitchLinear
from tests.fakes.random_models import VOCABULARY

WINDOW: Final = 32

_Config = Mapping[str, Any]

_BASE: Final[_Config] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "layer_norm_eps": 1e-5,
    "layer_norm_epsilon": 1e-5,
    "norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "partial_rotary_factor": 1.0,
    "attention_bias": False,
    "mlp_bias": False,
    "use_bias": False,
    "use_qkv_bias": False,
    "use_qk_norm": True,
    "tie_word_embeddings": False,
}
_FOUR_LAYERS: Final[_Config] = {"num_hidden_layers": 4}
_EXPERTS: Final[_Config] = {  # the first layer dense where that can be said
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "moe_top_k": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "num_shared_expert": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [0],
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
}
_DENSE: Final[_Config] = {**_EXPERTS, "first_k_dense_replace": 8}
_LATENT: Final[_Config] = {  # multi-head latent attention
    "num_key_value_heads": 4,
    "kv_lora_rank": 24,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
}
_GATED_DELTA: Final[_Config] = {
    "num_hidden_layers": 4,
    "head_dim": 16,
    "partial_rotary_factor": 0.25,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}
_SLIDING: Final[_Config] = {
    "num_hidden_layers": 4,
    "sliding_window": WINDOW,
    "sliding_window_pattern": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_MAMBA: Final[_Config] = {
    "intermediate_size": 64,
    "state_size": 8,
    "ssm_state_size": 8,
    "conv_kernel": 4,
    "use_conv_bias": True,
    "time_step_rank": 2,
    "time_step_limit": [0.001, 100.0],
    "n_groups": 1,
    "num_heads": 8,
    "mamba_num_heads": 8,
    "mamba_n_heads": 8,
    "mamba_head_dim": 8,
    "mamba_d_head": 8,
    "mamba_d_ssm": 64,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_proj_bias": False,
    "mamba_conv_bias": True,
}
_SCALED: Final[_Config] = {  # granite, minicpm
    "logits_scaling": 1.0,
    "attention_multiplier": 0.35,
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.5,
    "dim_model_base": 32,
    "scale_depth": 1.4,
    "scale_emb": 2.0,
}
_INDEXED: Final[_Config] = {  # attends to what an indexer picks
    **_LATENT,
    **_DENSE,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 16,
}


def _like(*parts: _Config, **own: Any) -> _Config:
    """`_BASE`, then `parts` in order, then `own`."""
    merged = dict(_BASE)
    for part in parts:
        merged.update(part)
    return {**merged, **own}


def _wrapped(model_type: str, text: _Config) -> _Config:
    """A multimodal model around a text model."""
    return {"model_type": model_type, "vocab_size": VOCABULARY, "text_config": dict(text)}


_LLAMA3_ROPE: Final[_Config] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
_YARN: Final[_Config] = {
    "type": "yarn",
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 1024,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
_DYNAMIC: Final[_Config] = {"type": "dynamic", "rope_type": "dynamic", "factor": 2.0}
_DYNAMIC_ALPHA: Final[_Config] = {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}
_LONG_ROPE: Final[_Config] = {
    "type": "longrope",
    "long_factor": [1.5] * 4,
    "short_factor": [1.0] * 4,
    "long_mscale": 1.2,
    "short_mscale": 1.0,
    "original_max_position_embeddings": 64,
}
_LLAMA4_SCALES: Final[_Config] = {  # attention scaled by position, from 64 on
    "rope_type": "default",
    "rope_theta": 10000.0,
    "llama_4_scaling_beta": 0.1,
    "original_max_position_embeddings": 64,
}
_MISTRAL4: Final[_Config] = _like(
    _LATENT,
    _DENSE,
    model_type="mistral4",
    head_dim=24,
    qk_head_dim=24,
    rope_parameters={**_LLAMA4_SCALES, **_YARN, "original_max_position_embeddings": 64},
)
_ROPE_BY_LAYER: Final[_Config] = {
    kind: {"rope_type": "default", "rope_theta": 10000.0}
    for kind in ("sliding_attention", "full_attention")
}
_GPT2: Final[_Config] = {
    "n_ctx": 4096,
    "n_positions": 4096,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_inner": 48,
}
_PHIXTRAL: Final[_Config] = {
    **_EXPERTS,
    "num_vocab": VOCABULARY,
    "model_dim": 32,
    "num_heads": 4,
    "num_layers": 2,
    "rotary_dim": 4,
}
_LONGCAT: Final[_Config] = {
    **_LATENT,
    **_EXPERTS,
    "attention_method": "MLA",
    "zero_expert_type": "identity",
    "zero_expert_num": 2,
    "ffn_hidden_size": 48,
    "expert_ffn_hidden_size": 32,
    "num_layers": 2,
    "mla_scale_q_lora": True,
    "mla_scale_kv_lora": True,
}
_SHORT_CONVOLUTIONS: Final[_Config] = {
    "num_hidden_layers": 4,
    "layer_types": ["conv", "full_attention"] * 2,
    "conv_bias": False,
    "conv_L_cache": 3,
    "use_expert_bias": True,
    "block_dim": 32,
    "block_multiple_of": 8,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
}
_GEMMA3N: Final[_Config] = _like(
    _SLIDING,
    model_type="gemma3n_text",
    intermediate_size=[48] * 4,
    num_kv_shared_layers=2,
    vocab_size_per_layer_input=VOCABULARY,
    hidden_size_per_layer_input=8,
    rope_local_base_freq=10000.0,
    final_logit_softcapping=30.0,
    activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
    altup_num_inputs=2,
    altup_coef_clip=120.0,
    altup_correct_scale=True,
    altup_active_idx=0,
    laurel_rank=8,
)
_GEMMA4_TEXT: Final[_Config] = _like(
    _SLIDING,
    model_type="gemma4_text",
    head_dim=16,
    global_head_dim=32,
    num_kv_shared_layers=2,
    hidden_size_per_layer_input=8,
    vocab_size_per_layer_input=VOCABULARY,
)
_GEMMA3_TEXT: Final[_Config] = _like(
    _SLIDING, model_type="gemma3_text", head_dim=16, query_pre_attn_scalar=16
)
_QWEN3_5_TEXT: Final[_Config] = _like(
    _GATED_DELTA,
    model_type="qwen3_5_text",
    rope_parameters={
        "type": "default",
        "mrope_section": [1, 1, 0],
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
    },
)
_KIMI_LINEAR: Final[_Config] = _like(
    _LATENT,
    _DENSE,
    model_type="kimi_linear",
    q_lora_rank=None,
    model_max_length=4096,
    linear_attn_config={
        "full_attn_layers": [2],
        "kda_layers": [1],
        "num_heads": 2,
        "head_dim": 16,
        "short_conv_kernel_size": 4,
    },
)

FAMILIES: Final[Mapping[str, _Config]] = {
    # Those that the issue of model families names.
    "llama": _like(model_type="llama", rope_scaling=dict(_LLAMA3_ROPE)),
    "qwen2": _like(model_type="qwen2", num_hidden_layers=3),
    "qwen3": _like(model_type="qwen3", num_hidden_layers=3, head_dim=16),
    "gemma3_text": _GEMMA3_TEXT,
    "gemma3": _wrapped("gemma3", _GEMMA3_TEXT),
    "gpt_oss": _like(
        _SLIDING,
        _EXPERTS,
        model_type="gpt_oss",
        intermediate_size=32,
        head_dim=16,
        rope_scaling=dict(_YARN),
    ),
    "deepseek_v2": _like(
        _LATENT,
        _DENSE,
        model_type="deepseek_v2",
        rope_scaling={**_YARN, "mscale": 0.7, "mscale_all_dim": 0.7},
    ),
    "deepseek_v3": _like(_LATENT, _DENSE, model_type="deepseek_v3"),
    "qwen3_5": _wrapped("qwen3_5", _QWEN3_5_TEXT),
    "qwen3_next": _like(_GATED_DELTA, _EXPERTS, model_type="qwen3_next", num_experts=0),
    # Variants of those: experts, which real ones have, and other positions.
    "llama_sliding": _like(_SLIDING, model_type="llama"),
    "llama_dynamic": _like(model_type="llama", rope_scaling=dict(_DYNAMIC)),
    "qwen2_linear": _like(model_type="qwen2", rope_scaling={"type": "linear", "factor": 2.0}),
    "deepseek_v2_experts": _like(
        _LATENT, _EXPERTS, model_type="deepseek_v2", topk_method="greedy", rope_scaling=dict(_YARN)
    ),
    "deepseek_v3_experts": _like(_LATENT, _EXPERTS, model_type="deepseek_v3"),
    "qwen3_next_experts": _like(_GATED_DELTA, _EXPERTS, model_type="qwen3_next"),
    # Full attention, dense.
    "apertus": _like(model_type="apertus", post_norm=False, qk_norm=True),
    "cohere": _like(model_type="cohere", logit_scale=1.0),
    "ernie4_5": _like(model_type="ernie4_5"),
    "exaone": _like(model_type="exaone", num_layers=2),
    "gemma": _like(model_type="gemma"),
    "gemma2": _like(model_type="gemma2", query_pre_attn_scalar=8.0),
    "glm": _like(model_type="glm"),
    "glm4": _like(model_type="glm4", partial_rotary_factor=0.5),
    "gpt2": _like(_GPT2, model_type="gpt2", num_key_value_heads=4),
    "gpt_bigcode": _like(_GPT2, model_type="gpt_bigcode", num_key_value_heads=None),
    "gpt_neox": _like(
        model_type="gpt_neox", rotary_emb_base=10000, rotary_pct=0.5, num_key_value_heads=4
    ),
    "gptj": _like(_GPT2, model_type="gptj", rotary_dim=4),
    "granite": _like(_SCALED, model_type="granite"),
    "helium": _like(model_type="helium"),
    "hunyuan_v1_dense": _like(model_type="hunyuan_v1_dense", rope_scaling=dict(_DYNAMIC_ALPHA)),
    "internlm2": _like(model_type="internlm2"),
    "internlm2_dynamic": _like(model_type="internlm2", rope_scaling=dict(_DYNAMIC)),
    "internlm3": _like(model_type="internlm3"),
    "internlm3_dynamic": _like(model_type="internlm3", rope_scaling=dict(_DYNAMIC)),
    "iquestcoder": _like(model_type="iquestcoder"),
    "lille-130m": _like(
        model_type="lille-130m", block_size=4096, n_embd=96, n_head=4, n_kv_heads=2, n_layer=2
    ),
    "mimo": _like(model_type="mimo"),
    "minicpm": _like(_SCALED, model_type="minicpm"),
    "ministral3": _like(model_type="ministral3", rope_parameters=dict(_LLAMA4_SCALES)),
    "mistral": _like(model_type="mistral"),
    "mistral3": _wrapped("mistral3", _like(model_type="mistral")),
    "llava": _wrapped("llava", _like(model_type="mistral")),
    "pixtral": _wrapped("pixtral", _like(model_type="mistral")),
    "nanbeige": _like(model_type="nanbeige", num_loops=2),
    "nanochat": _like(model_type="nanochat"),
    "nemotron": _like(model_type="nemotron", hidden_act="relu2"),
    "nemotron-nas": _like(
        model_type="nemotron-nas",
        block_configs=[
            {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 1.5}},
            {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.5}},
        ],
    ),
    "olmo2": _like(model_type="olmo2"),
    "openelm": _like(
        model_type="openelm",
        num_transformer_layers=2,
        model_dim=32,
        ffn_dim_divisor=16,
        num_query_heads=[4, 4],
        num_kv_heads=[2, 2],
        ffn_multipliers=[1.0, 1.5],
    ),
    "phi": _like(model_type="phi", partial_rotary_factor=0.5),
    "phi3": _like(model_type="phi3"),
    "phi3_longrope": _like(
        model_type="phi3", rope_scaling=dict(_LONG_ROPE), original_max_position_embeddings=64
    ),
    "plamo": _like(model_type="plamo", n_shared_head=2),
    "qwen": _like(model_type="qwen", kv_channels=8),
    "qwen2_vl": _wrapped("qwen2_vl", _like(model_type="qwen2")),
    "qwen2_5_vl": _wrapped("qwen2_5_vl", _like(model_type="qwen2")),
    "qwen3_vl": _wrapped("qwen3_vl", _like(model_type="qwen3")),
    "seed_oss": _like(model_type="seed_oss"),
    "smollm3": _like(model_type="smollm3", no_rope_layer_interval=2),
    "stablelm": _like(model_type="stablelm", partial_rotary_factor=0.5),
    "starcoder2": _like(model_type="starcoder2"),
    "talkie": _like(model_type="talkie"),
    "telechat3": _like(model_type="telechat3"),
    "xverse": _like(model_type="xverse"),
    # Full attention, experts.
    "Klear": _like(_EXPERTS, model_type="Klear"),
    "bailing_moe": _like(_EXPERTS, model_type="bailing_moe"),
    "dbrx": _like(
        model_type="dbrx",
        d_model=32,
        n_layers=2,
        n_heads=4,
        ffn_config={"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
        attn_config={"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
    ),
    "deepseek": _like(_EXPERTS, model_type="deepseek"),
    "dots1": _like(_EXPERTS, model_type="dots1"),
    "ernie4_5_moe": _like(_EXPERTS, model_type="ernie4_5_moe"),
    "glm4_moe": _like(_EXPERTS, model_type="glm4_moe", partial_rotary_factor=0.5),
    "granitemoe": _like(_EXPERTS, _SCALED, model_type="granitemoe"),
    "hunyuan": _like(
        _EXPERTS,
        model_type="hunyuan",
        use_mixed_mlp_moe=True,
        use_cla=False,
        cla_share_factor=2,
        rope_scaling=dict(_DYNAMIC_ALPHA),
    ),
    "hunyuan_cla": _like(  # layers share keys and values in pairs
        _EXPERTS,
        model_type="hunyuan",
        use_mixed_mlp_moe=True,
        use_cla=True,
        cla_share_factor=2,
        rope_scaling=dict(_DYNAMIC_ALPHA),
    ),
    "minimax": _like(_EXPERTS, model_type="minimax", rotary_dim=4),
    "minimax_m2": _like(_EXPERTS, model_type="minimax_m2", rotary_dim=4),
    "mixtral": _like(_EXPERTS, model_type="mixtral"),
    "olmoe": _like(_EXPERTS, model_type="olmoe"),
    "phimoe": _like(_EXPERTS, model_type="phimoe", rope_scaling=dict(_LONG_ROPE)),
    "phixtral": _like(_PHIXTRAL, model_type="phixtral"),
    "phi-msft": _like(_PHIXTRAL, model_type="phi-msft"),
    "qwen2_moe": _like(_EXPERTS, model_type="qwen2_moe"),
    "qwen3_moe": _like(_EXPERTS, model_type="qwen3_moe"),
    "qwen3_vl_moe": _wrapped("qwen3_vl_moe", _like(_EXPERTS, model_type="qwen3_moe")),
    "solar_open": _like(_EXPERTS, model_type="solar_open"),
    # Latent attention.
    "glm4_moe_lite": _like(_LATENT, _DENSE, model_type="glm4_moe_lite"),
    "joyai_llm_flash": _like(_LATENT, _DENSE, model_type="joyai_llm_flash"),
    "kimi_k2": _like(_LATENT, _DENSE, model_type="kimi_k2"),
    "kimi_k25": _wrapped("kimi_k25", _like(_LATENT, _DENSE, model_type="deepseek_v3")),
    "kimi_vl": _wrapped("kimi_vl", _like(_LATENT, _DENSE, model_type="deepseek_v3")),
    "longcat_flash": _like(_LONGCAT, model_type="longcat_flash"),
    "longcat_flash_ngram": _like(
        _LONGCAT,
        model_type="longcat_flash_ngram",
        ngram_vocab_size_ratio=3,
        emb_neighbor_num=3,
        emb_split_num=2,
    ),
    "mistral4": _MISTRAL4,
    "minicpm3": _like(_LATENT, _SCALED, model_type="minicpm3", rope_scaling=dict(_LONG_ROPE)),
    "youtu_llm": _like(_LATENT, model_type="youtu_llm"),
    "minimax_m3_vl": _wrapped(
        "minimax_m3_vl",
        _like(
            _EXPERTS,
            model_type="minimax_m3",
            dense_intermediate_size=48,
            intermediate_size=32,
            moe_layer_freq=[0, 1],
            sparse_attention_freq=[0, 1],
            index_n_heads=2,
            index_head_dim=8,
            index_block_size=8,
            index_topk_blocks=2,
            partial_rotary_factor=0.5,
        ),
    ),
    "deepseek_v32": _like(_INDEXED, model_type="deepseek_v32"),
    "glm_moe_dsa": _like(
        _INDEXED,
        model_type="glm_moe_dsa",
        moe_layer_freq=1,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
    ),
    # Sliding windows.
    "mistral3_latent": _wrapped("mistral3", _MISTRAL4),
    "mistral3_sliding": _wrapped(
        "mistral3",
        _like(_SLIDING, model_type="ministral3", rope_parameters=dict(_LLAMA4_SCALES)),
    ),
    "ministral3_sliding": _like(
        _SLIDING, model_type="ministral3", rope_parameters=dict(_LLAMA4_SCALES)
    ),
    "smollm3_sliding": _like(_SLIDING, model_type="smollm3"),
    "afmoe": _like(_SLIDING, _EXPERTS, model_type="afmoe"),
    "cohere2": _like(_SLIDING, model_type="cohere2", logit_scale=1.0),
    "exaone4": _like(_SLIDING, model_type="exaone4", sliding_window_pattern="LG"),
    "exaone4_global": _like(
        _FOUR_LAYERS, model_type="exaone4", sliding_window=None, sliding_window_pattern=None
    ),
    "exaone_moe": _like(
        _SLIDING, _EXPERTS, model_type="exaone_moe", is_moe_layer=[False, True, False, True]
    ),
    "gear": _like(
        _SLIDING,
        model_type="gear",
        layer_types=["conv_mixer", "sliding_attention", "full_attention", "conv_mixer"],
    ),
    "gemma3n": _wrapped("gemma3n", _GEMMA3N),
    "gemma4_text": _GEMMA4_TEXT,
    "gemma4_experts": _like(
        _GEMMA4_TEXT,
        _EXPERTS,
        num_kv_shared_layers=0,
        hidden_size_per_layer_input=0,
        enable_moe_block=True,
        top_k_experts=2,
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
        use_double_wide_mlp=False,
    ),
    "gemma4": _wrapped("gemma4", _GEMMA4_TEXT),
    "gemma4_unified": _wrapped("gemma4_unified", _GEMMA4_TEXT),
    "iquestloopcoder": _like(model_type="iquestloopcoder", loop_num=2, loop_window_size=WINDOW),
    "llama4": _wrapped(
        "llama4",
        _like(
            _EXPERTS,
            _FOUR_LAYERS,
            model_type="llama4_text",
            attention_chunk_size=WINDOW,
            interleave_moe_layer_step=2,
            intermediate_size_mlp=48,
            num_experts_per_tok=1,
        ),
    ),
    "llama4_text": _like(
        _FOUR_LAYERS,
        model_type="llama4_text",
        intermediate_size_mlp=48,
        no_rope_layers=[1, 1, 1, 0],
    ),
    "laguna": _like(
        _SLIDING,
        _EXPERTS,
        model_type="laguna",
        mlp_layer_types=["dense", "sparse", "dense", "dense"],
        rope_parameters=dict(_ROPE_BY_LAYER),
    ),
    "mellum": _like(_SLIDING, _EXPERTS, model_type="mellum", rope_parameters=dict(_ROPE_BY_LAYER)),
    "mimo_v2_flash": _like(
        _EXPERTS,
        _FOUR_LAYERS,
        model_type="mimo_v2_flash",
        hybrid_layer_pattern=[0, 1, 0, 1],
        moe_layer_freq=[0, 0, 1, 0],
        add_swa_attention_sink_bias=True,
        add_full_attention_sink_bias=False,
        sliding_window_size=WINDOW,
        layernorm_epsilon=1e-5,
        swa_rope_theta=10000.0,
        swa_num_attention_heads=4,
        swa_num_key_value_heads=2,
        head_dim=16,
        v_head_dim=8,
        swa_head_dim=16,
        swa_v_head_dim=8,
        partial_rotary_factor=0.5,
    ),
    "muse_glimmer": _like(_SLIDING, model_type="muse_glimmer", output_multiplier=1.0),
    "olmo3": _like(_SLIDING, model_type="olmo3"),
    "plamo3": _like(_SLIDING, model_type="plamo3"),
    "spark2_5": _like(_SLIDING, model_type="spark2_5", rope_parameters=dict(_ROPE_BY_LAYER)),
    "step3p5": _like(
        _SLIDING,
        _EXPERTS,
        model_type="step3p5",
        num_attention_groups=2,
        share_expert_dim=32,
        moe_layers_enum="1",
    ),
    # Recurrent layers, with full attention or without.
    "afm7": _like(
        model_type="afm7",
        hidden_dim=32,
        num_layers=4,
        num_kv_reuse_layers=1,
        num_heads=4,
        num_kv_heads=2,
    ),
    "baichuan_m1": _like(
        _SLIDING, model_type="baichuan_m1", sliding_window_layers=[0, 2], conv_window=2
    ),
    "bailing_hybrid": _like(
        _LATENT,
        _DENSE,
        model_type="bailing_hybrid",
        num_hidden_layers=4,
        layer_group_size=2,
        group_norm_size=2,
    ),
    "bailing_moe_linear": _like(
        _DENSE,
        model_type="bailing_moe_linear",
        num_hidden_layers=4,
        layer_group_size=2,
        group_norm_size=2,
        num_key_value_heads=4,
    ),
    "bailing_moe_v3": _like(
        _LATENT,
        _DENSE,
        model_type="bailing_hybrid",
        architectures=["BailingMoeV3ForCausalLM"],
        num_hidden_layers=4,
        layer_group_size=2,
        head_dim=16,
    ),
    "falcon_h1": _like(_MAMBA, model_type="falcon_h1"),
    "falcon_mamba": _like(_MAMBA, model_type="falcon_mamba"),
    "granitemoehybrid": _like(
        _MAMBA,
        _SCALED,
        model_type="granitemoehybrid",
        shared_intermediate_size=48,
        num_hidden_layers=4,
        layer_types=["mamba", "attention"] * 2,
    ),
    "granitemoehybrid_experts": _like(
        _MAMBA,
        _SCALED,
        _EXPERTS,
        model_type="granitemoehybrid",
        num_hidden_layers=4,
        layer_types=["mamba", "attention"] * 2,
    ),
    "jamba": _like(
        _MAMBA,
        _EXPERTS,
        model_type="jamba",
        attn_layer_offset=1,
        attn_layer_period=2,
        expert_layer_offset=1,
        expert_layer_period=2,
        num_hidden_layers=4,
    ),
    "kimi_linear": _KIMI_LINEAR,
    "kimi_k3": _wrapped("kimi_k3", _KIMI_LINEAR),
    "lfm2": _like(_SHORT_CONVOLUTIONS, model_type="lfm2"),
    "lfm2-vl": _wrapped("lfm2-vl", _like(_SHORT_CONVOLUTIONS, model_type="lfm2")),
    "lfm2_moe": _like(_SHORT_CONVOLUTIONS, _EXPERTS, model_type="lfm2_moe"),
    "mamba": _like(_MAMBA, model_type="mamba"),
    "mamba2": _like(_MAMBA, model_type="mamba2"),
    "nemotron_h": _like(
        _MAMBA, model_type="nemotron_h", hybrid_override_pattern=["M", "*", "-", "M"]
    ),
    "olmo_hybrid": _like(
        _GATED_DELTA, model_type="olmo_hybrid", head_dim=None, linear_allow_neg_eigval=True
    ),
    "plamo2": _like(
        _MAMBA,
        model_type="plamo2",
        hidden_size_per_head=8,
        attention_window_size=WINDOW,
        mamba_step=2,
        num_hidden_layers=4,
    ),
    "qwen3_5_moe": _wrapped(
        "qwen3_5_moe",
        {**_QWEN3_5_TEXT, **_EXPERTS, "model_type": "qwen3_5_moe_text"},
    ),
    "recurrent_gemma": _like(
        model_type="recurrent_gemma",
        conv1d_width=4,
        logits_soft_cap=30.0,
        attention_window_size=WINDOW,
        num_hidden_layers=4,
        block_types=["recurrent", "attention"] * 2,
        num_key_value_heads=1,
    ),
    "rwkv7": _like(
        model_type="rwkv7",
        head_dim=8,
        a_low_rank_dim=8,
        v_low_rank_dim=8,
        gate_low_rank_dim=8,
        decay_low_rank_dim=8,
    ),
}
"""By a name that tells variants of one model type apart."""


def with_window(config: _Config, window: int) -> _Config:
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
