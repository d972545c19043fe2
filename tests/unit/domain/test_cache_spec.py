from dataclasses import fields, replace
from typing import Any

import pytest

from semantic.domain.block import PartKind
from semantic.domain.cache_spec import (
    BLOCK_SIZE,
    AttentionLayer,
    CacheIdentity,
    Granularity,
    KVQuantization,
    LayerKind,
    ModelCacheSpec,
    RecurrentLayer,
    StateArray,
    blocks_behind,
)
from semantic.domain.resume import ResumeRule

KIB, MIB = 2**10, 2**20

LAYER = AttentionLayer(num_kv_heads=3, key_dim=64, value_dim=32, dtype="F32")
STATE = RecurrentLayer((StateArray((3, 40), "BF16"), StateArray((4, 8, 8), "F32")))
IDENTITY = CacheIdentity(
    weights="w",
    config="c",
    tokenizer="t",
    spec=ModelCacheSpec((LAYER, LAYER)),
    engine="e",
    backend="b",
)


def layer(heads: int, dim: int, window: int | None = None, keep: int = 0) -> AttentionLayer:
    """A layer in 16 bits."""
    return AttentionLayer(heads, dim, dim, "F16", window, keep)


GEMMA_3_12B = ModelCacheSpec((*5 * [layer(8, 256, 1024)], layer(8, 256)) * 8)
LLAMA_3_1_8B = ModelCacheSpec((layer(8, 128),) * 32)
QWEN_2_5_7B = ModelCacheSpec((layer(4, 128),) * 28)
GPT_OSS_20B = ModelCacheSpec((layer(8, 64, 128), layer(8, 64)) * 12)
DEEPSEEK_V3 = ModelCacheSpec((AttentionLayer(1, key_dim=512, value_dim=64, dtype="BF16"),) * 61)
GATED_DELTA = RecurrentLayer((StateArray((3, 8192), "BF16"), StateArray((32, 128, 128), "F32")))
QWEN_3_NEXT = ModelCacheSpec(
    (GATED_DELTA, GATED_DELTA, GATED_DELTA, AttentionLayer(2, 256, 256, "BF16")) * 12
)


class TestRealShapes:
    """The arithmetic of issue 4."""

    def test_gemma_3_12b_takes_2_mib_a_block_and_layer(self) -> None:
        assert len(GEMMA_3_12B.layers) == 48
        assert layer(8, 256, 1024).nbytes(BLOCK_SIZE) == layer(8, 256).nbytes(BLOCK_SIZE) == 2 * MIB
        assert GEMMA_3_12B.nbytes(PartKind.FULL) == 8 * 2 * MIB
        assert GEMMA_3_12B.nbytes(PartKind.SLIDING) == 40 * 2 * MIB
        assert GEMMA_3_12B.bytes_per_token == 64 * KIB

    def test_gemma_3_12b_takes_about_half_of_that_in_8_bits(self) -> None:
        assert layer(8, 256).nbytes(BLOCK_SIZE, KVQuantization(8, 64)) == 1.0625 * MIB
        assert layer(8, 256).nbytes(BLOCK_SIZE, KVQuantization(4, 64)) == 0.5625 * MIB

    def test_llama_3_1_8b_in_fewer_bits(self) -> None:
        assert LLAMA_3_1_8B.group_size == 64
        in_8 = replace(LLAMA_3_1_8B, quantization=KVQuantization(8, 64))
        assert in_8.bytes_per_token == 68 * KIB
        assert replace(in_8, quantization=KVQuantization(4, 64)).bytes_per_token == 36 * KIB

    def test_gemma_3_12b_goes_on_from_4_blocks_and_knows_full_from_sliding(self) -> None:
        assert blocks_behind(1024) == 4
        assert GEMMA_3_12B.windows == (1024,)
        ((_, sliding),) = GEMMA_3_12B.groups(PartKind.SLIDING)
        ((_, full),) = GEMMA_3_12B.groups(PartKind.FULL)
        assert (len(sliding), full) == (40, (5, 11, 17, 23, 29, 35, 41, 47))
        assert sorted(sliding + full) == list(range(48))

    def test_llama_3_1_8b_takes_128_kib_a_token(self) -> None:
        assert LLAMA_3_1_8B.bytes_per_token == 128 * KIB
        assert LLAMA_3_1_8B.nbytes(PartKind.FULL) == 32 * MIB
        assert LLAMA_3_1_8B.nbytes(PartKind.SLIDING) == LLAMA_3_1_8B.nbytes(PartKind.STATE) == 0

    def test_qwen_2_5_7b_takes_56_kib_a_token(self) -> None:
        assert QWEN_2_5_7B.bytes_per_token == 56 * KIB

    def test_gpt_oss_20b_keeps_127_tokens_of_a_block_in_half_its_layers(self) -> None:
        assert GPT_OSS_20B.bytes_per_token == 24 * KIB
        assert GPT_OSS_20B.nbytes(PartKind.SLIDING) == 127 * 24 * KIB
        assert GPT_OSS_20B.nbytes(PartKind.SLIDING, 100) == 100 * 24 * KIB
        assert blocks_behind(128) == 1

    def test_deepseeks_latent_attention_has_keys_and_values_of_two_widths(self) -> None:
        assert DEEPSEEK_V3.bytes_per_token == 61 * (512 + 64) * 2
        assert DEEPSEEK_V3.granularity is Granularity.BLOCK

    def test_a_state_takes_the_same_whatever_the_length(self) -> None:
        assert QWEN_3_NEXT.granularity is Granularity.SNAPSHOT
        state = 36 * (3 * 8192 * 2 + 32 * 128 * 128 * 4)
        assert QWEN_3_NEXT.nbytes(PartKind.STATE) == QWEN_3_NEXT.nbytes(PartKind.STATE, 1) == state
        assert QWEN_3_NEXT.bytes_per_token == 24 * KIB


class TestSpec:
    def test_a_token_takes_keys_and_values_of_every_head(self) -> None:
        assert LAYER.nbytes(1) == 3 * (64 + 32) * 4
        assert LAYER.nbytes(256) == 256 * LAYER.nbytes(1)
        assert LAYER.nbytes(0) == 0

    @pytest.mark.parametrize(
        ("window", "num_tokens", "kept"),
        [
            (None, 256, 256),
            (1024, 256, 256),
            (257, 256, 256),
            (256, 256, 255),
            (8, 256, 7),
            (8, 7, 7),
            (8, 3, 3),
            (1, 256, 0),
        ],
    )
    def test_a_layer_keeps_of_a_block_what_it_sees_from_its_end(
        self, window: int | None, num_tokens: int, kept: int
    ) -> None:
        assert layer(1, 1, window).kept_of(num_tokens) == kept

    @pytest.mark.parametrize(
        ("window", "blocks"),
        [(1, 0), (2, 1), (128, 1), (256, 1), (257, 1), (258, 2), (1024, 4), (1025, 4), (1026, 5)],
    )
    def test_blocks_behind_a_window(self, window: int, blocks: int) -> None:
        assert blocks_behind(window) == blocks

    def test_layers_know_their_kinds(self) -> None:
        kinds = [LAYER.kind, layer(1, 1, 8).kind, STATE.kind]
        assert kinds == [LayerKind.FULL, LayerKind.SLIDING, LayerKind.RECURRENT]

    def test_the_rule_to_resume_by_follows_from_the_layers(self) -> None:
        def rule(*layers: AttentionLayer | RecurrentLayer) -> ResumeRule:
            return ModelCacheSpec(layers).resume_rule

        assert rule(LAYER) == ResumeRule()
        assert rule(LAYER, STATE) == ResumeRule((), recurrent=True)
        windows = [layer(1, 1, window) for window in (300, 8, 300, None)]
        assert rule(*windows) == ResumeRule((8, 300))
        assert rule(*windows, STATE) == ResumeRule((8, 300), recurrent=True)

    def test_layers_of_one_shape_are_a_group_in_the_order_of_the_model(self) -> None:
        other = layer(1, 1)
        spec = ModelCacheSpec((STATE, other, LAYER, other, layer(1, 1, 8), STATE))
        assert spec.groups(PartKind.FULL) == ((other, (1, 3)), (LAYER, (2,)))
        assert spec.groups(PartKind.TAIL) == spec.groups(PartKind.FULL)
        assert spec.groups(PartKind.SLIDING) == ((layer(1, 1, 8), (4,)),)
        assert spec.groups(PartKind.STATE) == ((STATE, (0, 5)),)

    def test_every_part_takes_what_its_layers_take(self) -> None:
        spec = ModelCacheSpec((STATE, LAYER, layer(1, 1, 8), layer(1, 1, 300)))
        assert spec.nbytes(PartKind.FULL, 100) == spec.nbytes(PartKind.TAIL, 100)
        assert spec.nbytes(PartKind.FULL, 100) == 100 * 3 * (64 + 32) * 4
        assert spec.nbytes(PartKind.SLIDING, 100) == (7 + 100) * 4
        assert spec.nbytes(PartKind.STATE, 100) == 3 * 40 * 2 + 4 * 8 * 8 * 4

    def test_scales_and_biases_are_as_wide_as_what_they_scale(self) -> None:
        assert LAYER.nbytes(5, KVQuantization(8, 32)) == 5 * 3 * (64 + 32 + 3 * 2 * 4)
        half = replace(LAYER, dtype="BF16")
        assert half.nbytes(5, KVQuantization(4, 32)) == 5 * 3 * (32 + 16 + 3 * 2 * 2)

    def test_parts_are_quantised_and_what_runs_is_not(self) -> None:
        spec = ModelCacheSpec((STATE, LAYER, replace(LAYER, window=8)), KVQuantization(8, 32))
        for kind, rows in ((PartKind.FULL, 100), (PartKind.TAIL, 100), (PartKind.SLIDING, 7)):
            assert spec.nbytes(kind, 100) == LAYER.nbytes(rows, spec.quantization)
            assert spec.unquantized.nbytes(kind, 100) == LAYER.nbytes(rows)
        assert spec.nbytes(PartKind.STATE) == spec.unquantized.nbytes(PartKind.STATE) > 0
        assert spec.unquantized == ModelCacheSpec(spec.layers)

    @pytest.mark.parametrize(
        ("widths", "group_size"),
        [((64,), 64), ((128, 192), 64), ((64, 96), 32), ((512, 64), 64), ((80,), None), ((), 64)],
    )
    def test_a_group_fits_every_width(
        self, widths: tuple[int, ...], group_size: int | None
    ) -> None:
        spec = ModelCacheSpec((STATE, *(layer(1, width) for width in widths)))
        assert spec.widths == tuple(sorted(widths))
        assert spec.group_size == group_size

    def test_without_layers_there_is_nothing(self) -> None:
        assert ModelCacheSpec(()).bytes_per_token == 0
        assert ModelCacheSpec(()).granularity is Granularity.BLOCK


class TestNamespace:
    def test_the_same_identity_is_the_same_namespace_in_every_process(self) -> None:
        assert IDENTITY.namespace == replace(IDENTITY).namespace
        expected = "6f222ea4ec364c2a80b5fa73e70457a5b8bc640a6669b86acb05f651350624a7"
        assert IDENTITY.namespace == expected, "stored blocks would not be found any more"

    @pytest.mark.parametrize("field", [field.name for field in fields(CacheIdentity)])
    def test_every_field_decides(self, field: str) -> None:
        values = {"spec": None, "block_size": 128, "layout_version": 99, "kv_bits": 8}
        changed: Any = {field: values.get(field, "other")}
        assert replace(IDENTITY, **changed).namespace != IDENTITY.namespace

    def test_bits_and_groups_decide_and_none_names_what_was_kept_before(self) -> None:
        names = [IDENTITY.namespace]
        for quantization in (KVQuantization(8, 64), KVQuantization(4, 64), KVQuantization(8, 32)):
            spec = ModelCacheSpec((LAYER, LAYER), quantization)
            names.append(replace(IDENTITY, spec=spec).namespace)
            back = replace(IDENTITY, spec=spec.unquantized)
            assert back.namespace == IDENTITY.namespace
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("field", [field.name for field in fields(AttentionLayer)])
    def test_every_field_of_a_layer_decides(self, field: str) -> None:
        changed: Any = {field: "F16" if field == "dtype" else 99}
        other = ModelCacheSpec((LAYER, replace(LAYER, **changed)))
        assert replace(IDENTITY, spec=other).namespace != IDENTITY.namespace

    def test_every_array_of_a_state_decides(self) -> None:
        first, second = STATE.arrays
        others = [
            (second, first),
            (first,),
            (first, replace(second, dtype="BF16")),
            (first, replace(second, shape=(4, 8, 9))),
            (first, replace(second, shape=(4, 64))),
        ]
        specs = [ModelCacheSpec((LAYER, RecurrentLayer(arrays))) for arrays in others]
        specs += [ModelCacheSpec((LAYER, STATE)), ModelCacheSpec((STATE, LAYER))]
        assert len({replace(IDENTITY, spec=spec).namespace for spec in specs}) == len(specs)

    def test_values_cannot_move_from_field_to_field(self) -> None:
        swapped = replace(IDENTITY, weights="c", config="w")
        assert swapped.namespace != IDENTITY.namespace
