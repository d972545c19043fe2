"""A llama-architecture GGUF file as a model folder that mlx-lm loads.

Owns the names of tensors and the configuration. Weights stay quantised as they are in the file,
norms stay F32 (they make activations F32: many models trained in BF16 exceed what F16 can hold),
and nothing is guessed: what is not understood is refused.
"""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import cast

import mlx.core as mx

from semantic.adapters.outbound.mlx import cache_files, gguf_tokenizer
from semantic.adapters.outbound.mlx.gguf_metadata import GgufMetadata, Value
from semantic.domain.errors import ModelLoadError

CONVERTER_VERSION = 1
"""Part of a converted folder's name; raised whenever its content would change."""

_GROUP = 32
"""Values that share a scale in every block format kept here (Q4_0, Q4_1, Q8_0)."""
_WHOLE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(gguf: Path, target: Path) -> None:
    """Make the model folder `target` from the file `gguf`, in one step; an existing one is kept.

    Raises:
        ModelLoadError: if the file cannot be read, or is not a llama model of a known kind.
        OSError: if the folder cannot be written.
    """
    cache_files.make_folder(target, partial(write_model, gguf))


def write_model(gguf: Path, folder: Path) -> None:
    """Write the files of a model folder into `folder`. Raises as `convert` does."""
    tensors, metadata = _read(gguf)
    architecture = metadata.text("general.architecture")
    if architecture != "llama":
        raise ModelLoadError(f"{gguf}: architecture {architecture!r} is not supported, llama is")
    names = _names(metadata.required("llama.block_count"))
    weights = _renamed(tensors, names)
    config = _config(metadata, weights) | _quantization(weights)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    gguf_tokenizer.write(metadata, folder)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def _read(gguf: Path) -> tuple[dict[str, mx.array], GgufMetadata]:
    try:
        # The stub of mx.load does not tell what `return_metadata` does.
        tensors, metadata = cast(
            tuple[dict[str, mx.array], dict[str, Value]],
            mx.load(str(gguf), format="gguf", return_metadata=True),
        )
    except (RuntimeError, ValueError) as error:
        raise ModelLoadError(f"{gguf} cannot be read: {error}") from error
    return tensors, GgufMetadata(metadata)


def _names(blocks: int) -> dict[str, str]:
    """Tensor name in the file -> name in the folder, without .weight."""
    return _WHOLE | {
        f"blk.{block}.{theirs}": f"model.layers.{block}.{ours}"
        for block in range(blocks)
        for theirs, ours in _IN_BLOCK.items()
    }


def _renamed(tensors: dict[str, mx.array], names: dict[str, str]) -> dict[str, mx.array]:
    """All tensors under mlx-lm's names.

    mx.load leaves out, silently, tensors of a type it does not know; and a tensor not known here
    would be one that the model needs. Either is refused.
    """
    lost = [n for n in names if n != "output" and f"{n}.weight" not in tensors]
    if lost:
        raise ModelLoadError(
            f"the GGUF file lacks {len(lost)} tensors, or has them in a type that is not "
            f"supported (F32, F16, Q4_0, Q4_1 and Q8_0 are), first {lost[0]}"
        )
    weights = {}
    for name, tensor in tensors.items():
        stem, _, suffix = name.rpartition(".")
        if stem not in names or suffix not in {"weight", "scales", "biases"}:
            raise ModelLoadError(f"tensor {name} in the GGUF file is not supported")
        weights[f"{names[stem]}.{suffix}"] = tensor
    return weights


def _config(metadata: GgufMetadata, weights: dict[str, mx.array]) -> dict[str, object]:
    heads = metadata.required("llama.attention.head_count")
    hidden = metadata.required("llama.embedding_length")
    head_dim = metadata.integer("llama.attention.key_length") or hidden // heads
    _refuse_unknown_rope(metadata, head_dim)
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "head_dim": head_dim,
        "num_hidden_layers": metadata.required("llama.block_count"),
        "intermediate_size": metadata.required("llama.feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.integer("llama.attention.head_count_kv") or heads,
        "max_position_embeddings": metadata.required("llama.context_length"),
        "rms_norm_eps": metadata.number("llama.attention.layer_norm_rms_epsilon") or 1e-5,
        "rope_theta": metadata.number("llama.rope.freq_base") or 10000.0,
        # llama.cpp reorders the rows of q and k, so that a pair to rotate lies side by side.
        "rope_traditional": True,
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "vocab_size": weights["model.embed_tokens.weight"].shape[0],
        "bos_token_id": metadata.integer("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.integer("tokenizer.ggml.eos_token_id"),
    }


def _refuse_unknown_rope(metadata: GgufMetadata, head_dim: int) -> None:
    if (metadata.integer("llama.rope.dimension_count") or head_dim) != head_dim:
        raise ModelLoadError("a GGUF file that rotates a part of each head is not supported")
    scaling = metadata.text("llama.rope.scaling.type") or "none"
    if scaling != "none":
        raise ModelLoadError(f"rope scaling {scaling!r} in a GGUF file is not supported")


def _quantization(weights: dict[str, mx.array]) -> dict[str, object]:
    """mlx-lm's configuration: the commonest width for all, other layers by name."""
    bits = {
        name.removesuffix(".scales"): _bits(weights, name.removesuffix(".scales"))
        for name in weights
        if name.endswith(".scales")
    }
    if not bits:
        return {}
    usual = Counter(bits.values()).most_common(1)[0][0]
    others: dict[str, object] = {
        name: {"group_size": _GROUP, "bits": b} for name, b in sorted(bits.items()) if b != usual
    }
    return {"quantization": {"group_size": _GROUP, "bits": usual} | others}


def _bits(weights: dict[str, mx.array], name: str) -> int:
    """A row holds 32-bit words: as many for a group of 32 values as a value has bits."""
    return weights[f"{name}.weight"].shape[-1] // weights[f"{name}.scales"].shape[-1]
