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
from semantic.domain.block import PartKind
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


def test_lists_of_caches_count_as_layers_one_by_one() -> None:
    """DeepSeek V3.2 keeps its indexer's keys beside the latents, Falcon H1 both kinds at once."""
    latents = probe(make_model(FAMILIES["deepseek_v32"]))
    assert latents is not None
    assert [layer.kind for layer in latents.layers] == [LayerKind.FULL] * len(latents.layers)
    assert len(latents.groups(PartKind.FULL)) == 2
    mixed = probe(make_model(FAMILIES["falcon_h1"]))
    assert mixed is not None
    pairs = list(zip(mixed.layers[::2], mixed.layers[1::2], strict=True))
    assert {(first.kind, second.kind) for first, second in pairs} == {
        (LayerKind.RECURRENT, LayerKind.FULL)
    }


def test_states_that_are_no_numbers_of_a_known_type_are_not_kept() -> None:
    """Longcat's n-grams remember tokens, as integers."""
    model = make_model(FAMILIES["longcat_flash_ngram"])
    assert probe(model) is None


def test_a_state_may_be_wider_than_the_model() -> None:
    spec = probe(make_model(FAMILIES["qwen3_next"], dtype=mx.bfloat16))
    assert spec is not None
    states = [layer for layer in spec.layers if isinstance(layer, RecurrentLayer)]
    assert [[array.dtype for array in state.arrays] for state in states] == [["BF16", "F32"]] * 2


def test_a_state_that_grows_is_not_kept() -> None:
    class Growing(WithCaches):
        def make_cache(self) -> list[Any]:
            return [*super().make_cache(), ArraysCache(1)]

        def __call__(self, inputs: mx.array, cache: list[Any]) -> mx.array:
            *inner, beside = cache
            past = [] if beside[0] is None else [beside[0]]
            beside[0] = mx.concatenate([*past, inputs.astype(mx.float32)], axis=1)
            return super().__call__(inputs, inner)

    assert probe(Growing(KVCache)) is None


def test_a_state_of_which_a_part_is_never_written_is_not_kept() -> None:
    class Half(WithCaches):
        def make_cache(self) -> list[Any]:
            return [*super().make_cache(), ArraysCache(2)]

        def __call__(self, inputs: mx.array, cache: list[Any]) -> mx.array:
            *inner, beside = cache
            beside[0] = mx.zeros((1, 3))
            return super().__call__(inputs, inner)

    assert probe(Half(KVCache)) is None


def test_a_model_that_fails_is_refused() -> None:
    class Failing(WithCaches):
        def __call__(self, inputs: mx.array, cache: list[Any]) -> mx.array:
            raise ValueError(f"no kernel for {inputs.shape} in {len(cache)} layers")

    with pytest.raises(ModelLoadError, match="no kernel"):
        probe(Failing(KVCache))


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
