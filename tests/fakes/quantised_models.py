"""Models whose heads are wide enough for KV in fewer bits, and executors that keep it so."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

from mlx.nn.layers.base import Module
from mlx.utils import tree_map
from tests.fakes import random_models
from tests.fakes.model_families import FAMILIES

from semantic.adapters.outbound.mlx.executor import MlxExecutor
from semantic.adapters.outbound.mlx.kv_bits import in_bits
from semantic.domain.cache_spec import ModelCacheSpec

PROMISED: Final = (
    "llama",
    "qwen2",
    "qwen3",
    "gemma3_text",
    "gemma3",
    "gpt_oss",
    "deepseek_v2",
    "deepseek_v3",
    "qwen3_5",
    "qwen3_next",
)
"""The families of docs/model-families.md."""

_WIDE: Final[Mapping[str, Any]] = {
    "hidden_size": 128,
    "head_dim": 32,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
}
"""Sizes that families have under these names."""

_CALM: Final = 0.25
"""Of random weights: layers so wide would amplify what is rounded as no trained ones do."""


def widened(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config` with widths of whole groups; inside a multimodal wrapper too."""
    if "text_config" in config:
        return {**config, "text_config": dict(widened(config["text_config"]))}
    return {**config, **{name: size for name, size in _WIDE.items() if name in config}}


@cache
def wide_model(family: str) -> Module:
    """A family's network; made once, since nothing changes its weights."""
    model = random_models.make_model(widened(FAMILIES[family]))
    parameters = model.parameters()  # type: ignore[no-untyped-call] # mlx is untyped here
    model.update(tree_map(lambda leaf: leaf * _CALM if leaf.ndim > 1 else leaf, parameters))
    return model


def quantised(family: str, bits: int) -> tuple[MlxExecutor, ModelCacheSpec]:
    """An executor that keeps the family's KV in so many bits; what it keeps."""
    model = wide_model(family)
    capabilities = random_models.capabilities(model)
    spec = in_bits(capabilities.spec, bits)
    return MlxExecutor(model, replace(capabilities, spec=spec)), spec
