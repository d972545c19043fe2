"""Log-probabilities of chosen tokens and of the most likely ones in their place."""

import mlx.core as mx
import numpy as np

from semantic.domain.ids import TokenId
from semantic.domain.sampling import TokenLogprobs


def token_logprobs(logprobs: mx.array, token: TokenId, count: int) -> TokenLogprobs:
    """What `logprobs` (vocabulary,) say of `token` and of the `count` most likely ones.

    Equally likely tokens come in the order of their ids.
    """
    (found,) = _told(logprobs[None], mx.array([token]), count)
    return found


def scored_tokens(logits: mx.array, tokens: mx.array, count: int) -> list[TokenLogprobs]:
    """The same of `tokens` (n,) by the logits (n, vocabulary) in their places."""
    if not tokens.size:
        return []
    return _told(logits - mx.logsumexp(logits, axis=-1, keepdims=True), tokens, count)


def _told(logprobs: mx.array, tokens: mx.array, count: int) -> list[TokenLogprobs]:
    chosen = np.array(mx.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0])
    size = min(count, logprobs.shape[-1])
    if not size:
        return [TokenLogprobs(float(one)) for one in chosen]
    best = mx.argpartition(-logprobs, size - 1, axis=-1)[:, :size]
    scores = np.array(mx.take_along_axis(logprobs, best, axis=-1))
    # By score, and where these are equal by id.
    order = np.lexsort((np.array(best), -scores), axis=-1)
    ids = np.take_along_axis(np.array(best), order, axis=-1).tolist()
    ranked = np.take_along_axis(scores, order, axis=-1).tolist()
    return [
        TokenLogprobs(float(one), tuple(zip(row, known, strict=True)))
        for one, row, known in zip(chosen, ids, ranked, strict=True)
    ]
