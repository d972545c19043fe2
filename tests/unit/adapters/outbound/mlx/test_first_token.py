"""In how many passes a last chunk is computed, and that nobody sees a difference."""

import sys

import mlx.core as mx
import pytest
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch, StopSequences
from mlx_lm.models.cache import make_prompt_cache
from tests.fakes import random_models

from semantic.adapters.outbound.mlx.first_token import AT_ONCE, begin
from semantic.adapters.outbound.mlx.penalties import make_processors
from semantic.domain.ids import TokenId
from semantic.domain.sampling import SamplingParams

HISTORY = 40


class Passes:
    """A model that counts the tokens of each pass."""

    def __init__(self) -> None:
        self._model = random_models.make_model(random_models.LLAMA)
        self.layers = self._model.layers
        self.lengths: list[int] = []

    def __call__(self, tokens: mx.array, cache: list[object]) -> mx.array:
        self.lengths.append(tokens.shape[1])
        logits: mx.array = self._model(tokens, cache=cache)
        return logits


def prompt(length: int) -> list[TokenId]:
    return [TokenId(7 + index * 13 % 50) for index in range(length)]


def prefilled(model: Passes, sampling: SamplingParams) -> PromptProcessingBatch:
    """A batch whose first `HISTORY` tokens are there."""
    batch = PromptProcessingBatch(
        model,
        uids=[0],
        caches=[make_prompt_cache(model)],
        tokens=[[]],
        prefill_step_size=sys.maxsize,
        samplers=[lambda logprobs: mx.argmax(logprobs, axis=-1)],
        logits_processors=[make_processors(sampling)],
        stop_sequences=[StopSequences()],
        max_tokens=[sys.maxsize],
    )
    batch.prompt([prompt(HISTORY)])
    model.lengths.clear()
    return batch


def answer(started: GenerationBatch) -> list[int]:
    return [started.next()[0].token for _ in range(8)]


@pytest.mark.parametrize(
    ("length", "passes"),
    [(1, [1]), (2, [2]), (17, [17]), (AT_ONCE, [AT_ONCE]), (AT_ONCE + 1, [AT_ONCE, 1])],
)
@pytest.mark.parametrize(
    "sampling",
    [SamplingParams(), SamplingParams(repetition_penalty=1.5)],
    ids=["plain", "penalties see all of the prompt"],
)
def test_a_short_chunk_takes_one_pass_and_gives_the_same_answer(
    length: int, passes: list[int], sampling: SamplingParams
) -> None:
    model = Passes()
    new = prompt(HISTORY + length)[HISTORY:]
    apart = answer(prefilled(model, sampling).generate([list(new)]))

    started = begin(prefilled(model, sampling), new)
    assert model.lengths == passes
    assert started.tokens == [prompt(HISTORY + length)]
    assert answer(started) == apart
    assert model.lengths == [*passes, *[1] * 8]
    assert started.model is model
