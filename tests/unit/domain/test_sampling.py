import math

import pytest

from semantic.domain.errors import InvalidRequestError
from semantic.domain.sampling import MAX_STOP_STRINGS, MAX_TEMPERATURE, SamplingParams


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
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
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
