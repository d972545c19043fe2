from dataclasses import fields, replace
from typing import Any

import pytest

from semantic.domain.cache_spec import CacheIdentity, ModelCacheSpec

SPEC = ModelCacheSpec(
    num_layers=30, num_kv_heads=3, key_dim=64, value_dim=32, dtype="F32", itemsize=4
)
IDENTITY = CacheIdentity(weights="w", config="c", tokenizer="t", spec=SPEC, engine="e", backend="b")


def test_a_token_takes_keys_and_values_of_every_layer_and_head() -> None:
    assert SPEC.bytes_per_token == 30 * 3 * (64 + 32) * 4


def test_tokens_take_their_number_of_times_as_much() -> None:
    assert SPEC.bytes_for(256) == 256 * SPEC.bytes_per_token
    assert SPEC.bytes_for(0) == 0


def test_the_same_identity_is_the_same_namespace_in_every_process() -> None:
    assert IDENTITY.namespace == replace(IDENTITY).namespace
    expected = "06ac677da227b188636f4123efe0842251188c7b3075545a98133e86721e96a2"
    assert IDENTITY.namespace == expected, "stored blocks would not be found any more"


@pytest.mark.parametrize("field", [field.name for field in fields(CacheIdentity)])
def test_every_field_decides_about_the_namespace(field: str) -> None:
    values = {"spec": replace(SPEC, itemsize=2), "block_size": 128, "layout_version": 99}
    changed: Any = {field: values.get(field, "other")}
    assert replace(IDENTITY, **changed).namespace != IDENTITY.namespace


@pytest.mark.parametrize("field", [field.name for field in fields(ModelCacheSpec)])
def test_every_field_of_the_shape_decides_about_the_namespace(field: str) -> None:
    changed: Any = {field: "F16" if field == "dtype" else 99}
    other = replace(IDENTITY, spec=replace(SPEC, **changed))
    assert other.namespace != IDENTITY.namespace


def test_values_cannot_move_from_field_to_field() -> None:
    swapped = replace(IDENTITY, weights="c", config="w")
    assert swapped.namespace != IDENTITY.namespace
