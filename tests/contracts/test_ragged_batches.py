"""Which families' ragged batches agree with running alone: the proof behind `ragged.py`.

Sequences run together as the executor runs them: each is prefilled alone, in chunks, then joins
those that decode, and leaves when it is done. What decides is the log-probabilities that the
same tokens get from the model in one pass over the whole sequence, without a batch and its
caches. Answers are given and not sampled, so that one difference does not hide the next.
"""

import math
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch, StopSequences
from mlx_lm.models.cache import make_prompt_cache
from numpy.typing import NDArray
from tests.fakes.model_families import FAMILIES, WINDOW
from tests.fakes.random_models import VOCABULARY, make_model

from semantic.adapters.outbound.mlx.ragged import PROVEN_MODEL_TYPES, max_batch

BOUND = 5e-3
"""In log-probability, float32: rounding was seen up to 5e-4, no mistake below 0.4."""
VISIBLE = 10 * BOUND
"""A wrong row or a lost history moves log-probabilities by more than this."""
SAME_BEFORE_IT_COUNTS = 4
"""Tokens that all sequences share before differences show a memory, and not a convolution."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A sequence of the batch."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    joins: int
    """The step in which it joins."""

    @property
    def leaves(self) -> int:
        return self.joins + len(self.answer)


def _tokens(length: int, seed: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).choices(range(VOCABULARY), k=length))  # noqa: S311 - an example


ANSWER = _tokens(26, seed=0)
GUESTS = tuple(
    Guest(_tokens(prompt, seed=1 + joins), ANSWER[:answer], joins)
    # Shorter than the window and longer, growing over it, below and above who is there already.
    for prompt, answer, joins in ((40, 26, 0), (90, 24, 1), (5, 24, 3), (70, 24, 5))
)

LogProbs = NDArray[np.float32]
"""(answer, vocabulary)"""


def _alone(model: Module, guest: Guest) -> LogProbs:
    tokens = mx.array([[*guest.prompt, *guest.answer[:-1]]])
    logits = model(tokens, cache=make_prompt_cache(model))[0, len(guest.prompt) - 1 :]
    return np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))


def _forced(answer: Iterable[int]) -> Callable[[mx.array], mx.array]:
    left = iter(answer)
    return lambda _: mx.array([next(left)])


def _prefilled(model: Module, uid: int) -> GenerationBatch:
    batch = PromptProcessingBatch(
        model,
        uids=[uid],
        caches=[make_prompt_cache(model)],
        tokens=[[]],
        prefill_step_size=sys.maxsize,
        # One token more than is read: the engine is always a step ahead.
        samplers=[_forced((*GUESTS[uid].answer, 0))],
        logits_processors=[[]],
        stop_sequences=[StopSequences()],
        max_tokens=[sys.maxsize],
    )
    chunk, *rest = _chunks(GUESTS[uid].prompt)
    for following in rest:
        batch.prompt([list(chunk)])
        chunk = following
    started: GenerationBatch = batch.generate([list(chunk)])
    return started


def _chunks(prompt: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [prompt[start : start + WINDOW] for start in range(0, len(prompt), WINDOW)]


def _together(model: Module) -> list[LogProbs]:
    batch = _prefilled(model, 0)
    answers: list[list[LogProbs]] = [[] for _ in GUESTS]
    for step in range(max(guest.leaves for guest in GUESTS)):
        for uid, guest in enumerate(GUESTS):
            if uid and guest.joins == step:
                batch.extend(_prefilled(model, uid))  # type: ignore[no-untyped-call]
        for response in batch.next():
            answers[response.uid].append(np.array(response.logprobs))
        staying = [row for row, uid in enumerate(batch.uids) if GUESTS[uid].leaves > step + 1]
        if len(staying) < len(batch.uids):
            batch.filter(staying)
    return [np.stack(answer) for answer in answers]


def _largest_difference(model: Module, alone: list[LogProbs]) -> float:
    """Infinite if the engine refuses to run the batch."""
    try:
        together = _together(model)
    except ValueError:
        return math.inf
    return max(float(np.abs(a - b).max()) for a, b in zip(alone, together, strict=True))


def _smallest_visible(alone: list[LogProbs]) -> float:
    """How far apart different histories keep the same answer, where they are closest."""
    shared = min(len(answer) for answer in alone)
    seen = [answer[SAME_BEFORE_IT_COUNTS:shared] for answer in alone]
    return min(
        float(np.abs(one - other).max())
        for first, one in enumerate(seen)
        for other in seen[first + 1 :]
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_families_share_a_batch_if_and_only_if_that_changes_nothing(
    name: str, request: pytest.FixtureRequest
) -> None:
    config = FAMILIES[name]
    model = make_model(config)
    alone = [_alone(model, guest) for guest in GUESTS]
    assert _smallest_visible(alone) > VISIBLE
    difference = _largest_difference(model, alone)
    request.node.user_properties.append(("largest_difference", f"{difference:.1e}"))
    shares = max_batch(config["model_type"], len(GUESTS), config) > 1
    assert shares == (difference < BOUND), f"differs by {difference:.1e}"


def test_every_listed_type_is_proven() -> None:
    assert {config["model_type"] for config in FAMILIES.values()} >= PROVEN_MODEL_TYPES


def test_the_batch_has_every_size_up_to_four() -> None:
    # A size that equals the number of KV heads, 1, 2 or 4 here, can hide a wrong shape.
    steps = range(max(guest.leaves for guest in GUESTS))
    assert {sum(g.joins <= step < g.leaves for g in GUESTS) for step in steps} == {1, 2, 3, 4}
