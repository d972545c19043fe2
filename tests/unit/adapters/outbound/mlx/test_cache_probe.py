"""The spec of a loaded model, from what it does."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import ArraysCache, ChunkedKVCache, KVCache, RotatingKVCache
from tests.fakes.model_families import FAMILIES, WINDOW
from tests.fakes.random_models import make_model

from semantic.adapters.outbound.mlx.cache_probe import probe
from semantic.domain.cache_spec import AttentionLayer, Granularity, LayerKind, RecurrentLayer
from semantic.domain.errors import ModelLoadError

MAKERS: dict[str, Callable[[], Any]] = {
    "keeps its first tokens": lambda: RotatingKVCache(8, keep=4),  # type: ignore[no-untyped-call]
    "sees no past": lambda: RotatingKVCache(1),  # type: ignore[no-untyped-call]
}


class WithCaches(Module):
    """A small llama that asks for other caches."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # mlx is untyped here
        self.inner = make_model(FAMILIES["llama"])
        self.layers = self.inner.layers
        self.make = make

    def make_cache(self) -> list[Any]:
        return [self.make() for _ in self.layers]

    def __call__(self, inputs: mx.array, cache: list[Any]) -> mx.array:
        result: mx.array = self.inner(inputs, cache=cache)
        return result


def test_windows_and_full_attention_are_told_apart() -> None:
    spec = probe(make_model(FAMILIES["gemma3_text"]))
    assert spec is not None
    assert [layer.kind for layer in spec.layers] == [LayerKind.SLIDING, LayerKind.FULL] * 2
    assert spec.windows == (WINDOW,)
    assert spec.granularity is Granularity.BLOCK


def test_recurrent_layers_are_described_by_their_arrays() -> None:
    spec = probe(make_model(FAMILIES["qwen3_next"]))
    assert spec is not None
    assert spec.granularity is Granularity.SNAPSHOT
    (first, *_) = (layer for layer in spec.layers if isinstance(layer, RecurrentLayer))
    assert len(first.arrays) == 2
    assert all(array.shape[0] == 1 for array in first.arrays)


def test_latents_have_widths_of_their_own() -> None:
    spec = probe(make_model(FAMILIES["deepseek_v3"]))
    assert spec is not None
    assert {
        (layer.num_kv_heads, layer.key_dim, layer.value_dim)
        for layer in spec.layers
        if isinstance(layer, AttentionLayer)
    } == {(1, 24, 8)}


def test_the_element_type_is_that_of_the_cache() -> None:
    spec = probe(make_model(FAMILIES["llama"], dtype=mx.bfloat16))
    assert spec is not None
    assert {layer.dtype for layer in spec.layers if isinstance(layer, AttentionLayer)} == {"BF16"}


@pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
def test_windows_that_batches_get_wrong_are_not_kept(make: Callable[[], Any]) -> None:
    assert probe(WithCaches(make)) is None


def test_a_subclass_is_not_taken_for_what_it_extends() -> None:
    class Other(KVCache):
        pass

    assert probe(WithCaches(Other)) is None


def test_a_state_that_is_never_written_is_not_kept() -> None:
    class Beside(WithCaches):
        def make_cache(self) -> list[Any]:
            return [*super().make_cache(), ArraysCache(1)]

    assert probe(Beside(KVCache)) is None


def test_a_cache_that_cannot_enter_a_batch_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="cannot be batched"):
        probe(WithCaches(lambda: ChunkedKVCache(8)))  # type: ignore[no-untyped-call]
