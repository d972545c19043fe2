"""Sampling as its definition reads, a token at a time, in plain Python."""

import math
import random
from collections.abc import Sequence

from semantic.domain.ids import TokenId
from semantic.domain.sampling import SamplingParams, TokenLogprobs, draw_key


def adjusted(
    logits: Sequence[float], params: SamplingParams, history: Sequence[TokenId]
) -> list[float]:
    """Log-probabilities after bias and penalties."""
    biases = dict(params.logit_bias)
    found = []
    for token, logit in enumerate(logits):
        count = history.count(token)
        value = logit + biases.get(token, 0.0)
        if count:
            value = (
                value / params.repetition_penalty
                if value > 0
                else value * params.repetition_penalty
            )
            value -= params.frequency_penalty * count + params.presence_penalty
        found.append(value)
    return normalised(found)


def normalised(logits: Sequence[float]) -> list[float]:
    best = max(logits)
    total = best + math.log(sum(math.exp(logit - best) for logit in logits))
    return [logit - total for logit in logits]


def allowed(logprobs: Sequence[float], params: SamplingParams) -> list[TokenId]:
    """Tokens that may be drawn, the best first."""
    cooled = [logprob / max(params.temperature, 1e-6) for logprob in logprobs]
    ranked = sorted(range(len(cooled)), key=lambda token: -cooled[token])[: params.top_k]
    masses = [math.exp(cooled[token] - cooled[ranked[0]]) for token in ranked]
    kept: list[TokenId] = []
    mass = 0.0
    for token, one in zip(ranked, masses, strict=True):
        nucleus_full = params.top_p < 1 and mass >= params.top_p * sum(masses)
        if kept and (nucleus_full or one < params.min_p):
            break
        kept.append(token)
        mass += one
    return kept


def draw(logprobs: Sequence[float], params: SamplingParams, seed: int, number: int) -> TokenId:
    """The `number`-th token of an answer."""
    tokens = allowed(logprobs, params)
    if params.greedy:
        return max(range(len(logprobs)), key=logprobs.__getitem__)
    numbers = random.Random(draw_key(seed, number))  # noqa: S311 - no secret
    noise = [-math.log(-math.log(numbers.random() or 1e-300)) for _ in logprobs]
    cold = max(params.temperature, 1e-6)
    return max(tokens, key=lambda token: logprobs[token] / cold + noise[token])


def told(logprobs: Sequence[float], token: TokenId, count: int) -> TokenLogprobs:
    """What is said of a chosen token."""
    ranked = sorted(range(len(logprobs)), key=lambda other: (-logprobs[other], other))
    return TokenLogprobs(
        logprobs[token], tuple((other, logprobs[other]) for other in ranked[:count])
    )
