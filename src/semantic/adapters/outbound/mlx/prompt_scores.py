"""How likely a prompt's own tokens were.

A wrapper of the model that looks at the logits of prefill on their way. Invariant: every token but
the first is scored once, by the logits of the one before it, in whichever chunk that was.
"""

from collections.abc import Callable

import mlx.core as mx

from semantic.adapters.outbound.mlx.logprobs import scored_tokens
from semantic.domain.sampling import TokenLogprobs

PIECE = 256
"""Tokens whose logits are held at once: of a large vocabulary, 150 MB in float32."""


class PromptScorer:
    """The model, whose logits of one sequence are looked at until `stop`."""

    def __init__(self, model: Callable[..., mx.array], count: int) -> None:
        self._model = model
        self._count = count
        self._last: mx.array | None = None
        self._scores: list[TokenLogprobs] = []
        self._stopped = False

    def __call__(self, tokens: mx.array, cache: list[object]) -> mx.array:
        """Logits (1, length, vocabulary) of the tokens (1, length)."""
        logits = self._model(tokens, cache=cache)
        if self._stopped:
            return logits
        before = logits[0, :-1]
        if self._last is not None:
            before = mx.concatenate([self._last, before])
        targets = tokens[0, -before.shape[0] :] if before.shape[0] else tokens[0, :0]
        self._scores += scored_tokens(before, targets, self._count)
        self._last = logits[0, -1:]
        mx.eval(self._last)
        return logits

    def take(self) -> tuple[TokenLogprobs, ...]:
        """What has been found since it was asked last."""
        found, self._scores = tuple(self._scores), []
        return found

    def stop(self) -> None:
        """The prompt is over; others may join the batch."""
        self._stopped, self._last = True, None
