"""Small models with random weights, in memory or as an mlx-lm folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.utils import _get_classes
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from semantic.adapters.outbound.mlx.cache_probe import probe
from semantic.adapters.outbound.mlx.model_loader import vocab_size
from semantic.domain.cache_spec import Granularity
from semantic.domain.ids import Namespace
from semantic.ports.model_executor import Capabilities

VOCABULARY = 101
_WEIGHT_SCALE = 0.35
"""Large enough that answers wander over the vocabulary and depend on all that precedes."""

LLAMA: Mapping[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
}
GEMMA3: Mapping[str, Any] = {
    "model_type": "gemma3_text",
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "vocab_size": VOCABULARY,
    "sliding_window": 8,
    "sliding_window_pattern": 2,
    "max_position_embeddings": 2048,
}
GPT_OSS: Mapping[str, Any] = {
    "model_type": "gpt_oss",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": VOCABULARY,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 2.0,
        "original_max_position_embeddings": 1024,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
    },
}


def make_model(config: Mapping[str, Any], *, dtype: mx.Dtype = mx.float32, seed: int = 1) -> Module:
    """The network that `config` describes; the same seed makes the same weights."""
    model_class, args_class = _get_classes(dict(config))
    model: Module = model_class(args_class.from_dict(dict(config)))
    flat = _flat(model)
    keys = mx.random.split(mx.random.key(seed), len(flat))
    weights = [
        (name, _random_like(leaf, key).astype(dtype))
        for (name, leaf), key in zip(flat.items(), keys, strict=True)
    ]
    model.update(tree_unflatten(weights))
    mx.eval(_flat(model))
    return model


def capabilities(model: Module, max_batch: int = 8) -> Capabilities:
    """What an executor of `model` offers."""
    spec = probe(model)
    return Capabilities(
        granularity=spec.granularity if spec else Granularity.NONE,
        spec=spec,
        namespace=Namespace("0" * 64),
        max_context=4096,
        vocab_size=vocab_size(model),
        max_batch=max_batch,
    )


def write_folder(folder: Path, config: Mapping[str, Any], *, seed: int = 1) -> Path:
    """A model folder as mlx-lm reads it, with a tokenizer that knows numbers."""
    folder.mkdir(parents=True)
    model = make_model(config, seed=seed)
    mx.save_safetensors(str(folder / "model.safetensors"), _flat(model), {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 0}))
    words = {str(token): token for token in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="0"))  # noqa: S106 - a word
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "0"})
    )
    return folder


def _flat(model: Module) -> dict[str, mx.array]:
    flat: dict[str, mx.array] = {}
    tree_flatten(model.parameters(), destination=flat)  # type: ignore[no-untyped-call]
    return flat


def _random_like(leaf: mx.array, key: mx.array) -> mx.array:
    if leaf.ndim < 2:  # norms and biases
        return 1 + 0.1 * mx.random.normal(leaf.shape, key=key)
    return _WEIGHT_SCALE * mx.random.normal(leaf.shape, key=key)
