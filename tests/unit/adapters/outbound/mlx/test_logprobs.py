import mlx.core as mx
import pytest

from semantic.adapters.outbound.mlx.logprobs import token_logprobs
from semantic.domain.sampling import TokenLogprobs

LOGPROBS = mx.array([-3.0, -1.0, -2.0, -1.0, -5.0])


def test_the_best_come_first_and_equals_by_their_ids() -> None:
    assert token_logprobs(LOGPROBS, 4, 3) == TokenLogprobs(-5.0, ((1, -1.0), (3, -1.0), (2, -2.0)))


def test_without_alternatives_only_the_chosen_one_is_told() -> None:
    assert token_logprobs(LOGPROBS, 2, 0) == TokenLogprobs(-2.0, ())


@pytest.mark.parametrize("count", [5, 20])
def test_there_are_no_more_than_the_vocabulary_has(count: int) -> None:
    assert len(token_logprobs(LOGPROBS, 0, count).top) == 5
