"""Which models may share a batch.

mlx-lm's ragged batches are wrong for several architectures, some of them silently. A type is
listed here once tests/contracts/test_ragged_batches.py has shown, for every variant of it in
tests/fakes/model_families.py, that its batches agree with running alone; every other model runs
one sequence at a time. The proof holds for sequences that are prefilled one by one: filled
together, with padding, several of the recurrent types are wrong. docs/ragged-batches.md has the
figures.

Seen wrong in silence: afm7, gemma2, minimax_m3_vl. Refused by mlx-lm: gpt_bigcode, llama4, and
any type whose positions scale with the length. Nothing to compare with: plamo3, whose answers
depend on how a prompt is cut, and types that no tiny model could be made of.
"""

from collections.abc import Mapping
from typing import Final

PROVEN_MODEL_TYPES: Final = frozenset(
    {
        "Klear",
        "afmoe",
        "apertus",
        "baichuan_m1",
        "bailing_hybrid",
        "bailing_moe",
        "bailing_moe_linear",
        "cohere",
        "cohere2",
        "dbrx",
        "deepseek",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "dots1",
        "ernie4_5",
        "ernie4_5_moe",
        "exaone",
        "exaone4",
        "exaone_moe",
        "falcon_h1",
        "falcon_mamba",
        "gear",
        "gemma",
        "gemma3",
        "gemma3_text",
        "gemma3n",
        "gemma4",
        "gemma4_text",
        "gemma4_unified",
        "glm",
        "glm4",
        "glm4_moe",
        "glm4_moe_lite",
        "glm_moe_dsa",
        "gpt2",
        "gpt_neox",
        "gpt_oss",
        "gptj",
        "granite",
        "granitemoe",
        "granitemoehybrid",
        "helium",
        "hunyuan",
        "hunyuan_v1_dense",
        "internlm2",
        "internlm3",
        "iquestcoder",
        "iquestloopcoder",
        "jamba",
        "joyai_llm_flash",
        "kimi_k2",
        "kimi_k25",
        "kimi_k3",
        "kimi_linear",
        "kimi_vl",
        "laguna",
        "lfm2",
        "lfm2-vl",
        "lfm2_moe",
        "lille-130m",
        "llama",
        "llama4_text",
        "llava",
        "longcat_flash",
        "longcat_flash_ngram",
        "mamba",
        "mamba2",
        "mellum",
        "mimo",
        "mimo_v2_flash",
        "minicpm",
        "minicpm3",
        "minimax",
        "minimax_m2",
        "ministral3",
        "mistral",
        "mistral3",
        "mistral4",
        "mixtral",
        "muse_glimmer",
        "nanbeige",
        "nanochat",
        "nemotron",
        "nemotron-nas",
        "nemotron_h",
        "olmo2",
        "olmo3",
        "olmo_hybrid",
        "olmoe",
        "openelm",
        "phi",
        "phi-msft",
        "phi3",
        "phimoe",
        "phixtral",
        "pixtral",
        "plamo",
        "plamo2",
        "qwen",
        "qwen2",
        "qwen2_5_vl",
        "qwen2_moe",
        "qwen2_vl",
        "qwen3",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_moe",
        "qwen3_next",
        "qwen3_vl",
        "qwen3_vl_moe",
        "recurrent_gemma",
        "rwkv7",
        "seed_oss",
        "smollm3",
        "solar_open",
        "spark2_5",
        "stablelm",
        "starcoder2",
        "step3p5",
        "talkie",
        "telechat3",
        "xverse",
        "youtu_llm",
    }
)


def max_batch(model_type: str, configured: int, config: Mapping[str, object] | None = None) -> int:
    """Sequences that may run at once of a model of this type, with this config.json."""
    if model_type not in PROVEN_MODEL_TYPES or _scales_positions_by_length(config or {}):
        return 1
    return configured


def _scales_positions_by_length(config: Mapping[str, object]) -> bool:
    """Whether a sequence's length sets its rope's base; mlx-lm has one base for a whole batch."""
    text = config.get("text_config")
    if isinstance(text, Mapping) and _scales_positions_by_length(text):
        return True
    for name in ("rope_scaling", "rope_parameters"):
        scaling = config.get(name)
        if isinstance(scaling, Mapping):
            kind = scaling.get("type") or scaling.get("rope_type")
            # With alpha (Hunyuan) the base is fixed all the same.
            if kind == "dynamic" and "alpha" not in scaling:
                return True
    return False
