"""What a model's arguments say of its caches, to be compared with what it does.

A difference means that one of the two has been misunderstood, by mlx-lm or by us: such a model is
served without memory. Only families whose arguments we know are judged.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from mlx.nn.layers.base import Module

from semantic.domain.cache_spec import AttentionLayer, LayerKind, ModelCacheSpec

Text: TypeAlias = Any
"""The network that answers, within one that also sees, or the whole."""

Arguments: TypeAlias = Any
"""mlx-lm's `ModelArgs`, which differ from family to family."""

_KNOWN: Final = frozenset(
    {
        "deepseek_v2",
        "deepseek_v3",
        "gemma3_text",
        "gpt_oss",
        "llama",
        "qwen2",
        "qwen3",
        "qwen3_5_text",
        "qwen3_next",
    }
)

_KIND_OF: Final = {
    "full_attention": LayerKind.FULL,
    "sliding_attention": LayerKind.SLIDING,
    "linear_attention": LayerKind.RECURRENT,
}


def contradictions(model: Module, spec: ModelCacheSpec) -> tuple[str, ...]:
    """In what the model's arguments disagree with `spec`, each as a sentence."""
    text = model.language_model if hasattr(model, "language_model") else model
    # Some networks call their arguments something else; none of those that are judged does.
    args: Arguments = getattr(text, "args", None)
    if getattr(args, "model_type", None) not in _KNOWN:
        return ()
    return (*_kinds(text, args, spec), *_widths(args, spec))


def _kinds(model: Text, args: Arguments, spec: ModelCacheSpec) -> Iterator[str]:
    declared = _declared_kinds(model, args)
    found = [layer.kind for layer in spec.layers]
    if declared != found:
        yield f"layers are {_listed(found)}, the arguments say {_listed(declared)}"
    window = getattr(args, "sliding_window", None)
    for layer in spec.layers:
        if isinstance(layer, AttentionLayer) and layer.window not in (None, window):
            yield f"a window is {layer.window} tokens, sliding_window says {window}"


def _declared_kinds(model: Text, args: Arguments) -> list[LayerKind | str]:
    """The kind of every layer; its own name for it if that is none we know."""
    count: int = args.num_hidden_layers
    # GPT-OSS fills in what its arguments leave out, in the model beneath.
    types = getattr(args, "layer_types", None) or getattr(
        getattr(model, "model", None), "layer_types", None
    )
    if types:
        return [_KIND_OF.get(name, name) for name in types]
    every, others = 1, LayerKind.FULL
    if pattern := getattr(args, "sliding_window_pattern", None):
        every, others = pattern, LayerKind.SLIDING
    elif interval := getattr(args, "full_attention_interval", None):
        every, others = interval, LayerKind.RECURRENT
    return [LayerKind.FULL if (n + 1) % every == 0 else others for n in range(count)]


def _widths(args: Arguments, spec: ModelCacheSpec) -> Iterator[str]:
    attention = [layer for layer in spec.layers if isinstance(layer, AttentionLayer)]
    found = {(layer.num_kv_heads, layer.key_dim, layer.value_dim) for layer in attention}
    declared = _declared_widths(args)
    if found - declared:
        yield f"(KV heads, key width, value width) are {found}, the arguments say {declared}"


def _declared_widths(args: Arguments) -> set[tuple[int, int, int]]:
    """(KV heads, key width, value width) that the arguments allow."""
    if latent := getattr(args, "kv_lora_rank", None):
        rope: int = args.qk_rope_head_dim
        heads: int = args.num_attention_heads
        key = args.qk_nope_head_dim + rope
        # mlx-lm keeps the latent itself (V3), or the keys and values made from it (V2).
        return {(1, latent, rope), (heads, key, args.v_head_dim)}
    heads = args.num_key_value_heads
    width = getattr(args, "head_dim", None) or (args.hidden_size // args.num_attention_heads)
    return {(heads, width, width)}


def _listed(kinds: Sequence[LayerKind | str]) -> str:
    return " ".join(kind.value if isinstance(kind, LayerKind) else kind for kind in kinds)
