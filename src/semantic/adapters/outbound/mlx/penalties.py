"""What a sequence's settings do to its logits before anything is chosen.

One of mlx-lm's logits processors for each sequence that needs it; none for the others. How often
each token has come is counted once over the history, and then token by token.
"""

from collections.abc import Callable

import mlx.core as mx

from semantic.domain.sampling import SamplingParams

LogitsProcessor = Callable[[mx.array, mx.array], mx.array]
"""From the tokens so far (n,) and logits (1, vocabulary) to logits."""


def make_processors(params: SamplingParams) -> list[LogitsProcessor]:
    """Those that `params` ask for: a list of one or none."""
    return [_Adjustment(params)] if params.penalises or params.logit_bias else []


class _Adjustment:
    """Bias, then repetition (Keskar et al., CTRL, arXiv 1909.05858), frequency and presence.

    It is called once a step, with a history that is one token longer than before.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._counts: mx.array | None = None
        self._biased = mx.array([token for token, _ in params.logit_bias], mx.int32)
        self._bias = mx.array([bias for _, bias in params.logit_bias], mx.float32)

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._params.logit_bias:
            logits = logits.at[:, self._biased].add(self._bias)
        return self._penalised(tokens, logits) if self._params.penalises else logits

    def _penalised(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._counts is None:
            self._counts = mx.zeros(logits.shape[-1]).at[tokens].add(1)
        else:
            self._counts = self._counts.at[tokens[-1:]].add(1)
        params, seen = self._params, self._counts > 0
        if params.repetition_penalty != 1:
            penalty = params.repetition_penalty
            weaker = mx.where(logits > 0, logits / penalty, logits * penalty)
            logits = mx.where(seen, weaker, logits)
        if params.frequency_penalty:
            logits = logits - params.frequency_penalty * self._counts
        if params.presence_penalty:
            logits = logits - params.presence_penalty * seen
        return logits
