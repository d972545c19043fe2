"""Against plain Python that draws with the same noise, a row at a time."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest
from tests.fakes.reference_sampling import allowed

from semantic.adapters.outbound.mlx.sampler import RowSampler
from semantic.domain.ids import SequenceId, TokenId
from semantic.domain.sampling import SamplingParams, draw_key

SMALL, LARGE = 300, 3000
"""Vocabularies below and above the number of candidates that are looked at first."""

PARAMS = {
    "greedy": SamplingParams(temperature=0),
    "warm": SamplingParams(seed=1),
    "hot": SamplingParams(temperature=1.7, seed=2),
    "top_k": SamplingParams(temperature=0.8, top_k=7, seed=3),
    "top_p": SamplingParams(temperature=0.8, top_p=0.6, seed=4),
    "even top_p": SamplingParams(top_p=0.95, seed=5),
    "min_p": SamplingParams(temperature=1.3, min_p=0.2, seed=6),
    "all": SamplingParams(temperature=1.2, top_k=20, top_p=0.8, min_p=0.05, seed=7),
    "top_k beyond": SamplingParams(top_k=10**8, seed=8),
    "wide top_k": SamplingParams(temperature=2, top_k=1500, top_p=0.99, seed=9),
}


def logprobs_of(size: int, rows: int, *, spread: float = 2.0) -> mx.array:
    logits = mx.random.normal((rows, size), key=mx.random.key(7)) * spread
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def sampler_of(params: Sequence[SamplingParams], drawn: int = 0) -> RowSampler:
    sampler = RowSampler()
    for number, one in enumerate(params):
        sampler.add(SequenceId(number), one, drawn)
    sampler.expect(range(len(params)))
    return sampler


def chosen(params: Sequence[SamplingParams], logprobs: mx.array, drawn: int = 0) -> list[TokenId]:
    return list(map(int, np.array(sampler_of(params, drawn)(logprobs))))


def reference(params: SamplingParams, logprobs: mx.array, number: int) -> TokenId:
    scores = np.array(logprobs, np.float64).tolist()
    tokens = allowed(scores, params)
    if params.greedy:
        return tokens[0]
    assert params.seed is not None
    key = mx.array(divmod(draw_key(params.seed, number), 2**32), mx.uint32)
    noise = np.array(mx.random.gumbel((len(scores),), key=key), np.float64)
    return max(tokens, key=lambda token: scores[token] / params.temperature + noise[token])


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("name", PARAMS)
def test_each_draw_is_what_its_definition_says(name: str, size: int) -> None:
    logprobs = logprobs_of(size, 1)
    for number in range(12):
        expected = reference(PARAMS[name], logprobs[0], number)
        assert chosen([PARAMS[name]], logprobs, number) == [expected]


def test_neighbours_of_any_kind_change_nothing() -> None:
    params = list(PARAMS.values())
    logprobs = logprobs_of(LARGE, len(params))
    together = chosen(params, logprobs, 3)
    alone = [chosen([one], logprobs[row : row + 1], 3)[0] for row, one in enumerate(params)]
    assert together == alone


def test_a_nucleus_may_be_larger_than_what_is_looked_at_first() -> None:
    logprobs = logprobs_of(LARGE, 1, spread=0.01)
    params = SamplingParams(top_p=0.9, seed=11)
    drawn = {chosen([params], logprobs, number)[0] for number in range(300)}
    kept = allowed(np.array(logprobs[0], np.float64).tolist(), params)
    assert len(kept) > 2048
    # The last ones kept lie within what rounding of 3,000 sums may shift.
    assert len(drawn - set(kept)) <= 1
    assert len(drawn & set(kept[1024:])) > 100


def test_every_call_draws_the_next_number() -> None:
    logprobs = logprobs_of(SMALL, 1)
    sampler = sampler_of([PARAMS["warm"]])
    going_on = [sampler(logprobs).item() for _ in range(20)]
    assert going_on == [chosen([PARAMS["warm"]], logprobs, number)[0] for number in range(20)]
    assert len(set(going_on)) > 5


def test_draws_follow_the_probabilities() -> None:
    logprobs = mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]]))
    drawn = [chosen([SamplingParams(seed=21)], logprobs, number)[0] for number in range(1500)]
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert np.abs(shares - [0.5, 0.3, 0.15, 0.05]).max() < 0.04


def test_only_rows_that_were_announced_are_chosen_for() -> None:
    sampler = sampler_of([PARAMS["warm"]])
    with pytest.raises(ValueError, match="2 rows to choose for, not 1"):
        sampler(logprobs_of(SMALL, 2))


def test_half_precision_leaves_a_finite_choice() -> None:
    logprobs = logprobs_of(SMALL, 1).astype(mx.float16)
    params = SamplingParams(temperature=1e-9, top_p=0.9, seed=1)
    assert chosen([params], logprobs) == [mx.argmax(logprobs, axis=-1).item()]
