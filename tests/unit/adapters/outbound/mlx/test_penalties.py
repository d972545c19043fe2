import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest

from semantic.adapters.outbound.mlx.penalties import make_processors
from semantic.domain.sampling import SamplingParams

SIZE = 40
HISTORY = [3, 5, 3, 3, 9, 39, 0]
LOGITS = np.random.default_rng(1).normal(0, 3, SIZE).astype(np.float32)

PARAMS = {
    "repetition": SamplingParams(repetition_penalty=1.3),
    "repetition wanted": SamplingParams(repetition_penalty=0.7),
    "presence": SamplingParams(presence_penalty=1.5),
    "frequency": SamplingParams(frequency_penalty=-0.5),
    "bias": SamplingParams(logit_bias=((3, -100.0), (20, 7.5))),
    "all": SamplingParams(
        repetition_penalty=1.2,
        presence_penalty=-0.3,
        frequency_penalty=0.4,
        logit_bias=((3, 4.0), (5, -2.0)),
    ),
}


def expected(params: SamplingParams, history: list[int]) -> npt.NDArray[np.float32]:
    """The formulas of vLLM's documentation, bias first."""
    logits = LOGITS.copy()
    for token, bias in params.logit_bias:
        logits[token] += bias
    counts = np.bincount(history, minlength=SIZE)
    seen = counts > 0
    factor = np.where(logits > 0, 1 / params.repetition_penalty, params.repetition_penalty)
    logits = np.where(seen, logits * factor, logits)
    logits = logits - params.frequency_penalty * counts - params.presence_penalty * seen
    return np.asarray(logits, np.float32)


@pytest.mark.parametrize("name", PARAMS)
def test_logits_are_changed_as_the_formulas_say_with_every_token(name: str) -> None:
    (processor,) = make_processors(PARAMS[name])
    for count in range(4, len(HISTORY) + 1):
        found = processor(mx.array(HISTORY[:count]), mx.array(LOGITS)[None])
        assert np.allclose(np.array(found[0]), expected(PARAMS[name], HISTORY[:count]), atol=1e-5)


@pytest.mark.parametrize("name", PARAMS)
def test_who_comes_later_with_the_same_history_counts_the_same(name: str) -> None:
    (going_on,), (restored,) = make_processors(PARAMS[name]), make_processors(PARAMS[name])
    logits = mx.array(LOGITS)[None]
    for count in range(4, len(HISTORY)):
        going_on(mx.array(HISTORY[:count]), logits)
    tokens = mx.array(HISTORY)
    assert mx.array_equal(going_on(tokens, logits), restored(tokens, logits)).item()


def test_nothing_is_done_where_nothing_is_asked() -> None:
    assert make_processors(SamplingParams(temperature=0.3, top_p=0.5, top_k=3, logprobs=2)) == []
