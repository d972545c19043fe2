import math

import pytest

from semantic.domain.errors import InvalidRequestError
from semantic.domain.sampling import (
    MAX_STOP_STRINGS,
    MAX_TEMPERATURE,
    SamplingParams,
    draw_key,
)


def test_the_defaults_are_valid_and_not_greedy() -> None:
    assert not SamplingParams().greedy


def test_temperature_zero_is_greedy() -> None:
    assert SamplingParams(temperature=0).greedy


@pytest.mark.parametrize(
    "params",
    [
        {"max_tokens": 1},
        {"temperature": MAX_TEMPERATURE},
        {"top_p": 1.0},
        {"top_p": 0.001},
        {"top_k": 1},
        {"min_p": 0},
        {"min_p": 1.0},
        {"presence_penalty": -2},
        {"frequency_penalty": 2.0},
        {"repetition_penalty": 0.01},
        {"repetition_penalty": 100},
        {"logit_bias": ((0, -100.0), (1, 100.0))},
        {"logprobs": 0},
        {"logprobs": 20},
        {"seed": 0},
        {"seed": 2**64 - 1},
        {"stop": ("x",) * MAX_STOP_STRINGS},
    ],
)
def test_bounds_are_inclusive(params: dict[str, object]) -> None:
    SamplingParams(**params)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", -1),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("top_k", 0),
        ("top_k", -1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("min_p", math.nan),
        ("presence_penalty", -2.1),
        ("presence_penalty", math.nan),
        ("frequency_penalty", 2.1),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1.0),
        ("repetition_penalty", math.inf),
        ("repetition_penalty", 1e-300),
        ("logit_bias", ((-1, 0.0),)),
        ("logit_bias", ((1, 101.0),)),
        ("logit_bias", ((1, math.nan),)),
        ("logit_bias", ((1, 1.0), (1, 2.0))),
        ("logprobs", -1),
        ("logprobs", 21),
        ("seed", -1),
        ("seed", 2**64),
        ("stop", ("x",) * (MAX_STOP_STRINGS + 1)),
        ("stop", ("x", "")),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplingParams(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_bias_of_a_token_that_the_model_lacks_is_refused() -> None:
    params = SamplingParams(logit_bias=((5, 1.0), (100, 1.0)))
    params.check_vocabulary(101)
    with pytest.raises(InvalidRequestError, match="no token 100") as caught:
        params.check_vocabulary(100)
    assert caught.value.field == "logit_bias"


@pytest.mark.parametrize(
    ("change", "limits", "penalises"),
    [
        ({}, False, False),
        ({"top_k": 5}, True, False),
        ({"top_p": 0.9}, True, False),
        ({"min_p": 0.1}, True, False),
        ({"repetition_penalty": 0.9}, False, True),
        ({"presence_penalty": 0.1}, False, True),
        ({"frequency_penalty": -0.1}, False, True),
    ],
)
def test_says_what_has_to_be_done(
    change: dict[str, float], *, limits: bool, penalises: bool
) -> None:
    params = SamplingParams(**change)  # type: ignore[arg-type]
    assert (params.limits, params.penalises) == (limits, penalises)


def test_keys_of_seed_zero_are_splitmix64s_outputs() -> None:
    """The published sequence of the reference implementation."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [draw_key(0, number) for number in range(3)] == expected


def test_no_two_draws_of_any_seed_have_the_same_key() -> None:
    seeds = [*range(50), 2**32, 2**64 - 1, 0x9E3779B97F4A7C15]
    keys = {draw_key(seed, number) for seed in seeds for number in range(200)}
    assert len(keys) == len(seeds) * 200
    assert all(0 <= key < 2**64 for key in keys)
