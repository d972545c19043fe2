"""What a loaded model's caches are like, from what it does and from what its arguments say.

The spec comes from `make_cache()` and the shapes of a few tokens: arguments do not say it for
every family (engine facts, section 2). For families whose arguments are known they must agree.
"""

from itertools import pairwise
from typing import Final

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import ArraysCache, KVCache, RotatingKVCache, make_prompt_cache

from semantic.adapters.outbound.mlx.batch_caches import Cache, leaves
from semantic.adapters.outbound.mlx.kv_part import DTYPES
from semantic.domain.cache_spec import (
    AttentionLayer,
    LayerSpec,
    ModelCacheSpec,
    RecurrentLayer,
    StateArray,
)
from semantic.domain.errors import ModelLoadError

_TOKENS_TRIED: Final = (1, 2, 1)
"""Tokens of each step of the probe: a state's shape must not depend on how many there were."""


def probe(model: Module) -> ModelCacheSpec | None:
    """Every layer's cache; None if one of them is of a kind that cannot be kept.

    Raises:
        ModelLoadError: if the tokens cannot be run, or the caches cannot enter a batch.
    """
    caches = make_prompt_cache(model)
    if any(not hasattr(cache, "merge") for cache in caches):
        raise ModelLoadError("the model's cache cannot be batched by this version of mlx-lm")
    found = list(leaves(caches))
    if not all(_is_known(cache) for cache in found):
        return None
    described: list[tuple[LayerSpec | None, ...]] = []
    for tokens in _TOKENS_TRIED:
        try:
            model(mx.zeros((1, tokens), dtype=mx.int32), cache=caches)
            mx.eval([cache.state for cache in caches])
        except Exception as error:
            raise ModelLoadError(f"the model failed on its first tokens: {error}") from error
        described.append(tuple(_layer(cache) for cache in found))
    layers = tuple(layer for layer in described[0] if layer is not None)
    constant = all(before == after for before, after in pairwise(described))
    return ModelCacheSpec(layers) if constant and len(layers) == len(found) else None


def _is_known(cache: Cache) -> bool:
    # A subclass may mean something else by the same arrays; batches drop `keep` (engine facts),
    # and a window of one token sees no past.
    if type(cache) is RotatingKVCache:
        return bool(cache.keep == 0 and cache.max_size > 1)
    return type(cache) in (KVCache, ArraysCache)


def _layer(cache: Cache) -> LayerSpec | None:
    if type(cache) is ArraysCache:
        return _recurrent(cache.state[0])
    if cache.keys is None or cache.keys.dtype not in DTYPES:
        return None
    return AttentionLayer(
        num_kv_heads=cache.keys.shape[1],
        key_dim=cache.keys.shape[3],
        value_dim=cache.values.shape[3],
        dtype=DTYPES[cache.keys.dtype],
        window=cache.max_size if type(cache) is RotatingKVCache else None,
    )


def _recurrent(arrays: list[mx.array | None]) -> RecurrentLayer | None:
    known = [array for array in arrays if array is not None and array.dtype in DTYPES]
    if len(known) < len(arrays):
        return None
    return RecurrentLayer(
        tuple(StateArray(tuple(array.shape), DTYPES[array.dtype]) for array in known)
    )
