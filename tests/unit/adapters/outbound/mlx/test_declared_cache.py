"""What a model's arguments say of its caches, against what it does."""

from dataclasses import replace

import pytest
from tests.fakes.model_families import FAMILIES
from tests.fakes.random_models import make_model

from semantic.adapters.outbound.mlx.cache_probe import probe
from semantic.adapters.outbound.mlx.declared_cache import contradictions
from semantic.domain.cache_spec import AttentionLayer, ModelCacheSpec

KNOWN = (
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


def spec_of(family: str) -> ModelCacheSpec:
    spec = probe(make_model(FAMILIES[family]))
    assert spec is not None
    return spec


@pytest.mark.parametrize("family", KNOWN)
def test_of_known_families_they_agree(family: str) -> None:
    assert contradictions(make_model(FAMILIES[family]), spec_of(family)) == ()


@pytest.mark.parametrize("family", KNOWN)
def test_another_width_is_noticed(family: str) -> None:
    spec = spec_of(family)
    layers = tuple(
        replace(layer, key_dim=layer.key_dim + 1) if isinstance(layer, AttentionLayer) else layer
        for layer in spec.layers
    )
    (problem,) = contradictions(make_model(FAMILIES[family]), ModelCacheSpec(layers))
    assert "key width" in problem


@pytest.mark.parametrize("family", KNOWN)
def test_another_kind_of_layer_is_noticed(family: str) -> None:
    spec = spec_of(family)
    turned = next(layer for layer in spec.layers if isinstance(layer, AttentionLayer))
    other = replace(turned, window=None if turned.window else 7)
    layers = tuple(other if layer == turned else layer for layer in spec.layers)
    problems = contradictions(make_model(FAMILIES[family]), ModelCacheSpec(layers))
    assert any(problem.startswith("layers are") for problem in problems)


@pytest.mark.parametrize("family", ["gemma3_text", "gemma3", "gpt_oss"])
def test_another_window_is_noticed(family: str) -> None:
    layers = tuple(
        replace(layer, window=7) if isinstance(layer, AttentionLayer) and layer.window else layer
        for layer in spec_of(family).layers
    )
    problems = contradictions(make_model(FAMILIES[family]), ModelCacheSpec(layers))
    assert problems
    assert all("a window is 7 tokens" in problem for problem in problems)


def test_a_layer_type_of_an_unknown_name_is_named() -> None:
    model = make_model(FAMILIES["llama"])
    model.args.layer_types = ["full_attention", "chunked_attention"]
    problems = contradictions(model, spec_of("llama"))
    assert any("chunked_attention" in problem for problem in problems)


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_next"])
def test_a_recurrent_layer_that_is_not_is_noticed(family: str) -> None:
    spec = spec_of(family)
    attention = next(layer for layer in spec.layers if isinstance(layer, AttentionLayer))
    every = ModelCacheSpec((attention,) * len(spec.layers))
    (problem,) = contradictions(make_model(FAMILIES[family]), every)
    assert problem.startswith("layers are full full")
    assert "the arguments say recurrent" in problem


@pytest.mark.parametrize("family", KNOWN)
def test_a_missing_layer_is_noticed(family: str) -> None:
    shorter = ModelCacheSpec(spec_of(family).layers[:-1])
    problems = contradictions(make_model(FAMILIES[family]), shorter)
    assert any(problem.startswith("layers are") for problem in problems)


@pytest.mark.parametrize("family", ["gemma3n", "plamo2", "youtu_llm"])
def test_a_network_without_arguments_of_that_name_is_not_judged(family: str) -> None:
    """Each names them otherwise, in whole or in its language model."""
    assert contradictions(make_model(FAMILIES[family]), spec_of("llama")) == ()


def test_other_families_are_not_judged() -> None:
    model = make_model(FAMILIES["mamba"])
    spec = probe(model)
    assert spec is not None
    assert contradictions(model, spec) == ()
