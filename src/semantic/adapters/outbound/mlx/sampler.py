"""Choosing tokens. Each sampled sequence has its own random key.

So that neighbours in a batch cannot change what a seed produces.
"""

from collections.abc import Callable
from secrets import randbits

import mlx.core as mx
from mlx_lm.sample_utils import apply_top_p, greedy_sampler

from semantic.domain.sampling import SamplingParams

Sampler = Callable[[mx.array], mx.array]
"""From log-probabilities (1, vocabulary) to a token (1,)."""

_SEED_BITS = 63
_LEAST = 1e-6
"""Taken for smaller temperatures and nuclei, which would leave no finite logit in float32 and so
choose anything; this one already leaves the best alone."""


def make_sampler(params: SamplingParams) -> Sampler:
    """The sampler for `params`. Greedy is one shared object, which serves a whole batch at once."""
    if params.greedy:
        return greedy_sampler
    key = mx.random.key(params.seed if params.seed is not None else randbits(_SEED_BITS))
    temperature, top_p = max(params.temperature, _LEAST), max(params.top_p, _LEAST)

    def sample(logprobs: mx.array) -> mx.array:
        nonlocal key
        key, now = mx.random.split(key)
        # Half types would overflow: 7 / 0.0001 is no float16.
        scaled = logprobs.astype(mx.float32) / temperature
        if top_p < 1:
            # apply_top_p takes probabilities: after the temperature they must sum to one again.
            scaled = scaled - mx.logsumexp(scaled, axis=-1, keepdims=True)
            scaled = apply_top_p(scaled, top_p)
        return mx.random.categorical(scaled, key=now)

    return sample
